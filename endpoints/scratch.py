"""Folders for what is on its way: they go with the process that made them, however it ends.

A process holds a lock (flock) on its folder. The kernel drops it when the process ends, killed or not;
whoever next makes a folder removes those that nobody holds. The lock also keeps systemd-tmpfiles away, whose
convention this is (https://systemd.io/TEMPORARY_DIRECTORIES). Where folders cannot be locked (NFS), only
`close` removes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "endpoints-scratch-"


class Scratch:
    """An empty folder of one's own in the system's temporary folder, at `path`; `kind` shows in its name."""

    def __init__(self, kind: str) -> None:
        _sweep()
        self._lock: int | None = None
        while self._lock is None:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=f"-{kind}"))
            self._lock = _locked(self.path)

    def close(self) -> None:
        """Remove the folder and all in it. May be called twice."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _locked(folder: Path) -> int | None:
    """The descriptor that holds a new folder; None where another's sweep was quicker."""
    try:
        descriptor = _opened(folder)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # no locks on this file system: no sweep can have one either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def _sweep() -> None:
    """Remove this user's folders that nobody holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # held, gone, or another user's
            descriptor = _opened(folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():  # root may open everyone's
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
