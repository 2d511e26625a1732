"""Published files on this machine's disk: in place for `file://`, as bounded local copies for `s3://`.

Every file is checked against its manifest's checksum once per process before its first use.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from endpoints.errors import Corrupt, MissingFile, StoreUnavailable
from endpoints.lake.layout import version_folder
from endpoints.lake.manifest import FileEntry
from endpoints.lake.store import Store
from endpoints.settings import Settings

# A copy that was handed out this recently stays, budget or not: its reader may be about to open it.
GRACE_SECONDS = 60.0
ABANDONED_SECONDS = 3600.0
# How long a bad object in the store is not fetched again.
BAD_SECONDS = 60.0
# Copies under way at once, and how long one more waits: whoever waits holds a thread that could read what is
# here already. After a store that was that slow or did not answer nobody asks it for a while.
COPIES_AT_ONCE = 4
COPY_WAIT_SECONDS = 2.0
STORE_AWAY_SECONDS = 5.0
ANSWER_SECONDS = 4.0  # until an object begins to arrive
_REMEMBERED = 100_000
_LOCKS = 64
_CHUNK_BYTES = 2**20
_PART = ".part"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was when it was checked; another inode, size or time means another file."""

    inode: int
    size: int
    modified_ns: int


class FileCache:
    """Local paths of published files. Safe for many threads, and for many processes over one folder.

    Copies are named by their checksum, written aside and renamed. The least recently used go when `budget`
    bytes are exceeded; one file larger than that is still copied, since nothing else could answer.
    """

    def __init__(
        self, store: Store, folder: Path, budget: int, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.store, self._folder, self._budget, self._clock = store, folder, budget, clock
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._verdicts: dict[Path, tuple[_Seen, str | None]] = {}
        self._bad: dict[str, tuple[float, str]] = {}
        self._copying = threading.BoundedSemaphore(COPIES_AT_ONCE)
        self._asking = ThreadPoolExecutor(2 * COPIES_AT_ONCE, thread_name_prefix="store-ask")
        self._away_until = float("-inf")

    @classmethod
    def open(cls, store: Store, settings: Settings) -> FileCache:
        """The cache of the settings."""
        return cls(store, settings.cache_dir / "files", settings.cache_bytes)

    def local(self, endpoint: str, version: int, file: FileEntry) -> Path:
        """A path to the published bytes. MissingFile, Corrupt, StoreUnavailable."""
        key = f"{version_folder(endpoint, version)}/{file.path}"
        if self.store.root is not None:
            return self._in_place(self.store.root / key, file)
        return self._copied(key, file)

    def _in_place(self, path: Path, file: FileEntry) -> Path:
        try:
            why = self._checked(path, file)
        except MissingFile:
            self.store.require_root()
            raise
        if why is not None:
            raise Corrupt(file.path, why)
        return path

    def _copied(self, key: str, file: FileEntry) -> Path:
        path = self._folder / f"{_digest(file)}.parquet"
        try:
            self._touch(path)
            good = self._checked(path, file) is None
        except (OSError, MissingFile):  # not there, or a disk that cannot tell
            good = False
        if not good:
            with self._place_to_copy(), self._lock(file):
                self._fetch(key, file, path)
        return path

    @contextmanager
    def _place_to_copy(self) -> Iterator[None]:
        """One of the few copies under way. StoreUnavailable where the store is away, or too slow."""
        if time.monotonic() < self._away_until:
            raise StoreUnavailable("the store did not answer a moment ago")
        if not self._copying.acquire(timeout=COPY_WAIT_SECONDS):
            self._away_until = time.monotonic() + STORE_AWAY_SECONDS
            raise StoreUnavailable("the store is slow: too many copies of its files are under way")
        try:
            yield
        except StoreUnavailable:
            self._away_until = time.monotonic() + STORE_AWAY_SECONDS
            raise
        except OSError as error:  # of this machine's disk: the object may be good
            raise StoreUnavailable(f"no copy of a published file can be made here: {error}") from error
        finally:
            self._copying.release()

    def _touch(self, path: Path) -> None:
        """Marks the copy as used, in its access time; the rest of it stays as it was checked."""
        os.utime(path, ns=(int(self._clock() * 1e9), path.stat().st_mtime_ns))

    def _checked(self, path: Path, file: FileEntry) -> str | None:
        """What is wrong with the file at `path`, read at most once while it stays the same. MissingFile."""
        seen = _look(path, file)
        known = self._verdicts.get(path)
        if known is not None and known[0] == seen:
            return known[1]
        with self._lock(file):
            known = self._verdicts.get(path)
            if known is None or known[0] != seen:
                if len(self._verdicts) >= _REMEMBERED:
                    self._verdicts.clear()
                known = self._verdicts[path] = (seen, _fault(path, file, seen))
        return known[1]

    def _fetch(self, key: str, file: FileEntry, path: Path) -> None:
        """Copies the object to `path`, unless another thread has just done so."""
        self._refuse_known_bad(key, file)
        known = self._verdicts.get(path)
        if path.exists() and known == (_look(path, file), None):
            return
        chunks = self._answer(key)
        if chunks is None:
            raise MissingFile(file.path, "is not in the store")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make_room(file.bytes)
        part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_PART}")
        try:
            why = _save(chunks, part, file)
            if why is not None:
                self._bad[key] = (self._clock(), why)
                raise Corrupt(file.path, why)
            part.replace(path)
            self._touch(path)
            self._verdicts[path] = (_look(path, file), None)
        finally:
            part.unlink(missing_ok=True)

    def _answer(self, key: str) -> Iterator[bytes] | None:
        """The object in pieces. StoreUnavailable where the store, which retries by itself, takes too long."""
        asked = self._asking.submit(self.store.chunks, key)
        try:
            return asked.result(ANSWER_SECONDS)
        except TimeoutError:
            raise StoreUnavailable(f"reading {key}: no answer in {ANSWER_SECONDS:.0f} s") from None

    def _refuse_known_bad(self, key: str, file: FileEntry) -> None:
        at, why = self._bad.get(key, (float("-inf"), ""))
        if 0 <= self._clock() - at < BAD_SECONDS:  # a clock may be set back
            raise Corrupt(file.path, why)
        self._bad.pop(key, None)

    def _make_room(self, wanted: int) -> None:
        """Removes the copies used least recently until `wanted` bytes fit, and what killed copiers left."""
        now, copies = self._clock(), []
        for path in self._folder.iterdir():
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix != _PART:
                copies.append((facts.st_atime, facts.st_size, path))
            elif now - facts.st_mtime > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in copies) + wanted
        for used, size, path in sorted(copies):
            if total <= self._budget or 0 <= now - used < GRACE_SECONDS:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _lock(self, file: FileEntry) -> threading.Lock:
        return self._locks[hash(file.checksum) % _LOCKS]


def _digest(file: FileEntry) -> str:
    """The checksum's hex digits; Corrupt where it is not a SHA-256, since it also names the copy."""
    kind, _, digits = file.checksum.partition(":")
    if kind != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise Corrupt(file.path, f"has a checksum of an unknown kind: {file.checksum!r}")
    return digits


def _look(path: Path, file: FileEntry) -> _Seen:
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise MissingFile(file.path, "is missing") from None
    return _Seen(facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _fault(path: Path, file: FileEntry, seen: _Seen) -> str | None:
    """Reads the file: what is wrong with it, if anything."""
    if seen.size != file.bytes:
        return _wrong_size(seen.size, file)
    found = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            found.update(chunk)
    return _wrong_sum(found.hexdigest(), file)


def _save(chunks: Iterator[bytes], path: Path, file: FileEntry) -> str | None:
    """Writes the object to `path`; what is wrong with it, if anything. Stops when it grows past its size."""
    found, size = hashlib.sha256(), 0
    with path.open("wb") as sink:
        for chunk in chunks:
            size += len(chunk)
            if size > file.bytes:
                break
            found.update(chunk)
            sink.write(chunk)
    return _wrong_size(size, file) if size != file.bytes else _wrong_sum(found.hexdigest(), file)


def _wrong_size(size: int, file: FileEntry) -> str:
    return f"has {size} bytes, the manifest says {file.bytes}"


def _wrong_sum(digits: str, file: FileEntry) -> str | None:
    return None if digits == _digest(file) else "holds other bytes than were published (checksum)"
