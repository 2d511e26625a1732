"""Following the lake: every version's newest manifest in memory, never older than a few seconds.

One thread lists the hints every two seconds, in one request per thousand versions, and walks on from those
that changed. A hint is only a hint: it can be late or lost. So each round also walks, from what is known, a
part of the versions whose hints say nothing new; of a few dozen, that is all of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from endpoints.errors import Corrupt, StoreUnavailable
from endpoints.lake.layout import HEADS, hinted
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake

EVERY_SECONDS = 2.0
WALKS_PER_ROUND = 16  # each is a request: at 16 every two seconds, 20 million a month
WALKERS = 8
# Without a good round for this long, what is in memory may no longer be the truth.
UNHEALTHY_AFTER_SECONDS = 10.0

VersionKey = tuple[str, int]

log = logging.getLogger(__name__)


class Follower:
    """Newest manifests by (endpoint, version). `manifest` is a look into memory; any thread may call it.

    While the store is down it keeps what it knows, and `healthy` says so.
    """

    def __init__(
        self, lake: Lake, *, every: float = EVERY_SECONDS, walks_per_round: int = WALKS_PER_ROUND
    ) -> None:
        self._lake, self._every, self._walks_per_round = lake, every, walks_per_round
        self._heads: dict[VersionKey, Manifest] = {}
        self._tags: dict[VersionKey, str] = {}
        self._watched: dict[VersionKey, None] = {}
        self._position = 0
        self._stop, self._ready = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._last_good: float | None = None
        self.last_refresh: datetime | None = None

    @property
    def healthy(self) -> bool:
        """Whether a round has ended well in the last seconds."""
        return self._last_good is not None and time.monotonic() - self._last_good < UNHEALTHY_AFTER_SECONDS

    def start(self) -> None:
        """Begins to follow, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="lake-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; what is known stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Waits, at most `timeout` seconds, until one round has ended well; whether it has."""
        return self._ready.wait(timeout)

    def watch(self, versions: Iterable[VersionKey]) -> None:
        """Follows these even where no hint tells of them."""
        self._watched.update(dict.fromkeys(versions))

    def manifest(self, endpoint: str, version: int) -> Manifest | None:
        """The newest manifest known; no I/O. A version asked for is watched from then on."""
        key = (endpoint, version)
        if key not in self._watched:
            self._watched[key] = None
        return self._heads.get(key)

    def learn(self, manifest: Manifest) -> None:
        """Takes a manifest that someone else has read, if it is newer than what is known."""
        key = (manifest.endpoint, manifest.version)
        known = self._heads.get(key)
        if known is None or known.number < manifest.number:
            self._heads[key] = manifest

    def refresh(self) -> None:
        """One round: the hints, then the walks. StoreUnavailable where the store does not answer."""
        tags = {key: found.tag for found in self._lake.store.list(HEADS) if (key := hinted(found.key))}
        changed = [key for key, tag in tags.items() if self._tags.get(key) != tag]
        others = self._turn([key for key in {**self._watched, **tags} if key not in set(changed)])
        with ThreadPoolExecutor(WALKERS, "lake-walker") as walkers:
            list(walkers.map(lambda key: self._follow(key, hinted=key in tags), [*changed, *others]))
        self._tags = tags
        self._last_good, self.last_refresh = time.monotonic(), datetime.now(UTC)
        self._ready.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.refresh()
            except StoreUnavailable as error:
                log.warning("the lake does not answer, serving what is known: %s", error)
            except Exception:
                log.exception("a round of following the lake failed")
            self._stop.wait(max(self._every - (time.monotonic() - began), 0.05))

    def _turn(self, keys: list[VersionKey]) -> list[VersionKey]:
        """The next few of `keys`, going round and round."""
        count = min(len(keys), self._walks_per_round)
        start = self._position % len(keys) if keys else 0
        self._position = start + count
        return [*keys[start:], *keys[:start]][:count]

    def _follow(self, key: VersionKey, *, hinted: bool) -> None:
        known = self._heads.get(key)
        start = known.number if known else 0
        if hinted and start == 0:
            start = self._lake.hint(*key)
        try:
            if known and self._lake.newest(*key, after=start) == start:
                return
            found = self._lake.head(*key, after=start)
        except Corrupt as error:
            log.error("keeping the snapshot before: %s", error)
            return
        if found is not None:
            self.learn(found)
