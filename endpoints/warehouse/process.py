"""The parent's end of a worker process: start it, talk in frames, and stop it at once when asked."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import endpoints
from endpoints.errors import QueryTimeout, WarehouseUnavailable
from endpoints.scratch import Scratch
from endpoints.warehouse.failures import TIMEOUT_EXCEEDED
from endpoints.warehouse.sandbox import linked
from endpoints.warehouse.worker import HEADER, REQUEST, write_frame

_PIPE_BYTES: Final = 1 << 20
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


def _environment(scratch: Path) -> dict[str, str]:
    """What a worker may know: no keys, credentials or settings. UTC: times mean the same everywhere."""
    source = str(Path(endpoints.__file__).parent.parent)
    own = {"HOME": str(scratch), "TMPDIR": str(scratch), "TZ": "UTC", "PYTHONPATH": source}
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | own


def readable(folder: Path) -> tuple[object, ...]:
    """What a worker's sandbox is made from: the folder, by its inode, and the links out of it."""
    status = folder.stat()
    return status.st_dev, status.st_ino, *linked(folder)


class WorkerProcess:
    """One worker. Used by one query at a time; only `kill` may come from another thread."""

    def __init__(self, folder: Path) -> None:
        self.may_read = readable(folder)
        self._scratch = Scratch("chdb")
        self._log = self._scratch.path / "stderr"
        with self._log.open("wb") as log:
            # A process group of its own: Ctrl-C in a terminal is the parent's to handle. No PR_SET_PDEATHSIG:
            # it fires when the thread that started the child ends, and ours come from thread pools.
            self._process = subprocess.Popen(  # noqa: S603  (our own module, no caller's words)
                [sys.executable, "-P", "-m", "endpoints.warehouse.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._scratch.path,
                env=_environment(self._scratch.path),
                process_group=0,
            )
        self._stdin = cast(BinaryIO, self._process.stdin)
        self._stdout = cast(BinaryIO, self._process.stdout)
        fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, request: Mapping[str, Any]) -> None:
        try:
            write_frame(self._stdin, REQUEST, json.dumps(request).encode())
        except BrokenPipeError:
            raise self._gone() from None

    def receive(self, deadline: float | None) -> tuple[bytes, memoryview]:
        """The next frame. QueryTimeout past `deadline` (monotonic), WarehouseUnavailable if it died."""
        kind, length = HEADER.unpack(self._read(HEADER.size, deadline))
        return kind, self._read(length, deadline)

    def kill(self) -> None:
        """End it now, whatever it does; what waits in `receive` sees it gone. Safe from any thread."""
        self._process.kill()

    def close(self) -> None:
        """End it and leave nothing behind. May be called twice."""
        self._process.kill()
        self._process.wait()
        for stream in (self._stdin, self._stdout):
            with suppress(BrokenPipeError):  # a request that it never read
                stream.close()
        self._scratch.close()

    def _read(self, length: int, deadline: float | None) -> memoryview:
        body = memoryview(bytearray(length))
        done = 0
        while done < length:
            self._wait(deadline)
            count = os.readv(self._stdout.fileno(), [body[done:]])
            if not count:
                raise self._gone()
            done += count
        return body

    def _wait(self, deadline: float | None) -> None:
        # poll, not select: descriptors can be past 1,024 in a server
        waiter = select.poll()
        waiter.register(self._stdout, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not waiter.poll(left):
            raise QueryTimeout("the query did not stop at its timeout and was killed", TIMEOUT_EXCEEDED)

    def _gone(self) -> WarehouseUnavailable:
        status = self._process.wait()
        last_words = self._log.read_text(errors="replace")[-2000:].strip() if self._log.exists() else ""
        return WarehouseUnavailable(
            f"embedded ClickHouse ended while the query ran (status {status}). {last_words}"
        )
