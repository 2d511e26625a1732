"""Why versions run live only, as planning them has told before: planning is a quarter of what loading a
thousand endpoints takes, and most of them are as they were.

A file in the cache folder, for one state of the planner's code; it may be lost, or belong to older code, at
the cost of planning once more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

import endpoints
from endpoints.definition import Version

log = logging.getLogger(__name__)

_FILE: TypeAdapter[dict[str, str | None]] = TypeAdapter(dict[str, str | None])


class Verdicts:
    """What is known of versions' plans: None where they have one, else why not."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"plans-{_planner()}.json"
        self._before = self._read()
        self._now: dict[str, str | None] = {}

    def of(self, version: Version, plan: Callable[[], str | None]) -> str | None:
        """The verdict on a version, from `plan` if it is new or has changed."""
        key = f"{version.key} {version.fingerprint}"
        verdict = self._before[key] if key in self._before else plan()
        self._now[key] = verdict
        return verdict

    def keep(self) -> None:
        """Write what has been asked for, if it differs from what is there; older files go."""
        if self._now == self._before:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._path.parent, delete=False) as file:
                file.write(_FILE.dump_json(self._now))
            Path(file.name).replace(self._path)
            for other in self._path.parent.glob("plans-*.json"):
                if other != self._path:
                    other.unlink(missing_ok=True)
        except OSError as error:
            log.warning("plans are not kept for the next load: %s", error)

    def _read(self) -> dict[str, str | None]:
        try:
            return _FILE.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return {}


def _planner() -> str:
    """A digest that differs whenever code that plans may have."""
    root = Path(endpoints.__file__).parent
    stated = [(str(path), (at := path.stat()).st_mtime_ns, at.st_size) for path in sorted(root.rglob("*.py"))]
    return hashlib.blake2b(os.fsencode(repr(stated)), digest_size=8).hexdigest()
