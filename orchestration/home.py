"""The project's Dagster instance: the folder DAGSTER_HOME, `<project>/.dagster` unless set."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCATION = "endpoints"
"""The code location's name, as workspace.yaml gives it."""

WORKSPACE = Path(__file__).with_name("workspace.yaml")
_CONFIG = Path(__file__).with_name("dagster.yaml")


def prepare_home(project: Path) -> Path:
    """Make the folder, give it a dagster.yaml if it has none, and set DAGSTER_HOME for this process."""
    home = Path(os.environ.get("DAGSTER_HOME") or project / ".dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_CONFIG.read_text("utf-8"), "utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    _make_storage(home)
    return home


def _make_storage(home: Path) -> None:
    """Let Dagster make its databases once, with nobody else about.

    Two processes that make them at once (a first `materialize` while `dev` starts) write two versions
    into the SQLite files, and then no Dagster starts on them any more: "more than one head present".
    """
    made = home / ".storage-made"
    if made.exists():
        return
    with (home / ".storage-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            return
        from dagster import DagsterInstance  # seconds, so only the first time

        with DagsterInstance.get():
            made.touch()
