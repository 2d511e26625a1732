"""The project's Dagster instance: the folder DAGSTER_HOME, `<project>/.dagster` unless set.

Imports no Dagster, so that whatever starts Dagster can call it first.
"""

from __future__ import annotations

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
    return home
