"""Runs on their way to the lake: first a line in a local file, then Parquet under `_usage/`.

    record ─▶ queue ─(¼ s)─▶ journal, a local file ─(5 s, or 100,000 runs)─▶ the lake

A line holds runs of one kind. It outlives this process as soon as it is in the file, so that only a
machine that dies loses more than the last quarter of a second: at most five. A journal stays where it is
while the store is away; whoever runs next in the same folder sends it. It is sent under its own name, so
sending it twice is sending it once. While the disk takes nothing, runs wait in memory, as many as the queue
holds, and go to the lake from there.
A process holds a lock (flock) on the journal that it writes, and whoever sends one holds it too.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO

import orjson

from endpoints.errors import LakeError
from endpoints.lake.store import Store
from endpoints.usage import Alike, RunRecord, together, write

log = logging.getLogger(__name__)

WRITE_EVERY = 0.25  # seconds
SEND_EVERY = 5.0
SEND_ROWS = 100_000
QUEUE_ROWS = 100_000
LAST_SECONDS = 10.0  # for sending what is left when the process ends; what remains is on the disk
_SUFFIX = ".jsonl"

Watch = Callable[[list[Alike]], None]


class Journal:
    """`Records` that end in the lake. `folder` takes at most `most_bytes`; `dropped` counts what is more."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        most_bytes: int,
        watch: Watch = lambda runs: None,
        send_every: float = SEND_EVERY,
    ) -> None:
        self._store, self._folder, self._most_bytes, self._watch = store, folder, most_bytes, watch
        self._send_every = send_every
        self._queue: deque[tuple[RunRecord, float, float]] = deque()
        self._lock = threading.Lock()  # of the file that is being written
        self._file: FileIO | None = None
        self._unwritten: list[Alike] = []  # that the disk has not taken
        self._rows, self._opened_at = 0, 0.0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write_on, name="journal", daemon=True),
            threading.Thread(target=self._send_on, name="journal-send", daemon=True),
        ]
        self.dropped = 0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Write what is left, and send it if the store takes it now."""
        self._stop.set()
        for thread in self._threads:
            thread.join(LAST_SECONDS)
        self.drain()

    def record(self, run: RunRecord) -> None:
        """Take a run. Neither waits nor fails."""
        self.again(run, run.at, run.duration)

    def again(self, run: RunRecord, at: float, duration: float) -> None:
        """Take another run like this one. Neither waits nor fails."""
        if len(self._queue) >= QUEUE_ROWS:
            self.dropped += 1
            return
        self._queue.append((run, at, duration))

    def drain(self) -> None:
        """Put what waits into the file, now."""
        with self._lock:
            runs = together([self._queue.popleft() for _ in range(len(self._queue))])
            self._watch(runs)
            runs = [*self._unwritten, *runs]
            if not runs:
                return
            try:
                self._append(runs)
            except OSError as error:  # the disk is full, or the folder is gone
                self._abandon_file()
                if not self._unwritten:
                    log.error("the disk takes no usage, which goes on in memory: %s", error.strerror)
                self._keep_in_memory(runs)
            else:
                self._unwritten = []

    def _keep_in_memory(self, runs: list[Alike]) -> None:
        """Keep them, but for the oldest where they are more than the queue may hold."""
        excess = _rows(runs) - QUEUE_ROWS
        while excess > 0:
            oldest = runs[0]
            gone = min(excess, len(oldest.at))
            runs = [oldest.since(gone), *runs[1:]]
            runs = runs if runs[0].at else runs[1:]
            excess -= gone
            self.dropped += gone
        self._unwritten = runs

    def _abandon_file(self) -> None:
        """What a full disk has taken of it is sent; the rest is still in memory."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _append(self, runs: list[Alike]) -> None:
        if self._file is None:
            if self._held_bytes() > self._most_bytes:
                self.dropped += _rows(runs)
                log.warning("usage waits for the lake in more than %d bytes: it is dropped", self._most_bytes)
                return
            self._file, self._rows, self._opened_at = self._open(), 0, time.monotonic()
        self._write_whole(self._file, b"".join(map(_line, runs)))
        self._rows += _rows(runs)

    @staticmethod
    def _write_whole(file: FileIO, lines: bytes) -> None:
        """All lines or, on a disk that is full, none: a line must not be sent twice. OSError."""
        begun, rest = file.tell(), memoryview(lines)
        try:
            while rest:
                rest = rest[file.write(rest) or 0 :]
        except OSError:
            file.truncate(begun)
            file.seek(begun)
            raise

    def _open(self) -> FileIO:
        """A new file that is ours: between its making and our lock another may have taken it to send."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            path = self._folder / f"{_name()}{_SUFFIX}"
            file = path.open("xb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():
                return file
            file.close()

    def _held_bytes(self) -> int:
        return sum(size for size in map(_size, self._journals()))

    def _journals(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    def _write_on(self) -> None:
        while not self._stop.wait(WRITE_EVERY):
            self.drain()
            self._close_if_due()
        self.drain()
        self._close()

    def _close_if_due(self) -> None:
        old = time.monotonic() - self._opened_at >= self._send_every
        if self._file is not None and (old or self._rows >= SEND_ROWS):
            self._close()

    def _close(self) -> None:
        """Let go of the file: closing it drops the lock, and then it is sent."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _send_on(self) -> None:
        while not self._stop.wait(min(WRITE_EVERY, self._send_every)):
            if not self._send_all():
                self._stop.wait(self._send_every)
        self._threads[0].join(LAST_SECONDS)  # it closes the last file
        self._send_all()

    def _send_all(self) -> bool:
        """Send what waits; False where the store does not take it, or the disk does not let go of it."""
        try:
            return self._send_unwritten() and self._send_journals()
        except OSError as error:
            log.warning("usage waits on a disk that fails: %s", error.strerror)
            return False

    def _send_unwritten(self) -> bool:
        """Send what only memory holds."""
        with self._lock:
            runs, self._unwritten = self._unwritten, []
        if not runs:
            return True
        try:
            write(self._store, _name(), runs)
        except LakeError as error:
            log.warning("usage cannot be sent, and waits in memory: %s", error)
            with self._lock:
                self._keep_in_memory([*runs, *self._unwritten])
            return False
        return True

    def _send_journals(self) -> bool:
        """Send every journal that nobody writes."""
        for path in self._journals():
            with _held(path) as file:
                if file is None:
                    continue
                try:
                    if runs := list(_runs(file)):
                        write(self._store, path.name.removesuffix(_SUFFIX), runs)
                except LakeError as error:
                    log.warning("usage cannot be sent, and waits on the disk: %s", error)
                    return False
                path.unlink(missing_ok=True)
        return True


def _name() -> str:
    return f"{time.time_ns():x}-{os.getpid()}-{os.urandom(4).hex()}"


def _rows(runs: Iterable[Alike]) -> int:
    return sum(len(group.at) for group in runs)


def _line(group: Alike) -> bytes:
    return orjson.dumps([[*group.run], *group[1:]]) + b"\n"


def _runs(lines: IO[bytes]) -> Iterator[Alike]:
    for line in lines:
        with suppress(ValueError, TypeError):  # cut off by a kill, or of an edition that wrote other lines
            run, *columns = orjson.loads(line)
            yield Alike(RunRecord(*run), *columns)


@contextmanager
def _held(path: Path) -> Iterator[IO[bytes] | None]:
    """The journal, if nobody writes it and nobody else is sending it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield file if path.exists() else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
