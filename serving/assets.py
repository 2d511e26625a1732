"""Published assets as requests read them: the newest manifest from memory, rows in a thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from endpoints.definition import Version
from endpoints.errors import Corrupt, EndpointsError, StoreUnavailable
from endpoints.lake.follow import Follower
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.lake.read import AssetReader
from endpoints.query.bind import Bound
from endpoints.query.plan import Plan
from endpoints.rows import Rows

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

READ_THREADS = 8
FIRST_LOOK = 5.0  # seconds
OLDER_SNAPSHOTS = 64  # that cursors go on in, held in memory
CORRUPT_FOR = 60.0  # seconds before a snapshot that could not be read is tried again


class Assets:
    """The lake as one process sees it."""

    def __init__(self, lake: Lake, follower: Follower, reader: AssetReader) -> None:
        self.lake, self._follower, self._reader = lake, follower, reader
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="asset")
        self._older: OrderedDict[tuple[str, int, int], Manifest] = OrderedDict()
        self._corrupt: dict[tuple[str, int], tuple[int, float]] = {}

    def start(self, versions: Iterable[Version]) -> None:
        """Follow these. Waits a little for the first look at the lake, so that early callers get assets."""
        self.watch(versions)
        self._follower.start()
        if not self._follower.wait_ready(FIRST_LOOK):
            log.warning("the lake has not answered yet: starting without it")

    def watch(self, versions: Iterable[Version]) -> None:
        """Follow these as well."""
        self._follower.watch((version.endpoint, version.number) for version in versions)

    def stop(self) -> None:
        self._follower.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._reader.close()

    @property
    def held_bytes(self) -> int:
        """What decoded rows take in memory."""
        return self._reader.held_bytes

    @property
    def healthy(self) -> bool:
        """Whether the lake has been read, and answers."""
        return self._follower.healthy

    def manifest(self, version: Version) -> Manifest | None:
        """The newest manifest, from memory."""
        return self._follower.manifest(version.endpoint, version.number)

    async def reload(self, version: Version) -> Manifest | None:
        """The newest manifest, from the store; None where it cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            newest = await loop.run_in_executor(
                self._threads, self.lake.head, version.endpoint, version.number
            )
        except (StoreUnavailable, Corrupt):
            return None
        if newest is not None:
            self._follower.learn(newest)
        return newest

    async def at(self, version: Version, number: int) -> Manifest | None:
        """One snapshot by its number; None where it is gone. Raises Corrupt, StoreUnavailable."""
        newest = self.manifest(version)
        if newest is None or newest.number == number:
            return newest
        key = (version.endpoint, version.number, number)
        if (known := self._older.get(key)) is None:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self.lake.manifest, *key)
            if not isinstance(found, Manifest):
                return None
            known = self._older[key] = found
            while len(self._older) > OLDER_SNAPSHOTS:
                self._older.popitem(last=False)
        return known

    async def read(
        self, manifest: Manifest, plan: Plan, bound: Bound, limit: int, offset: int, *, count: bool = False
    ) -> Rows:
        """One page of an asset, with `count` the number of rows of all. Raises Corrupt, StoreUnavailable.

        Few rows that are in memory are read here; for anything else a thread waits.
        """
        at_once = None if count else self.read_at_once(manifest, plan, bound, limit, offset)
        if at_once is not None:
            return at_once
        read = partial(self._reader.read, limit=limit, offset=offset, max_rows=limit, count=count)
        context = copy_context()  # what is logged, is logged under the request's id
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, context.run, partial(self._guarded, manifest, plan, read, manifest, plan, bound)
        )

    def read_at_once(
        self, manifest: Manifest, plan: Plan, bound: Bound, limit: int, offset: int
    ) -> Rows | None:
        """`read`, where the rows are few and in memory; None where not."""
        return self._guarded(
            manifest, plan, self._reader.read_at_once, manifest, plan, bound, limit=limit, offset=offset
        )

    def _guarded(
        self, manifest: Manifest, plan: Plan, read: Callable[P, T], *given: P.args, **named: P.kwargs
    ) -> T:
        """What `read` gives. Whatever goes wrong with a file, the answer can still come from ClickHouse."""
        try:
            return read(*given, **named)
        except EndpointsError:
            raise
        except Exception as error:
            log.exception("%s: snapshot %d cannot be read", plan.key, manifest.number)
            raise Corrupt(f"snapshot {manifest.number}", type(error).__name__) from error

    def is_corrupt(self, manifest: Manifest) -> bool:
        """Whether this snapshot could not be read a moment ago."""
        number, until = self._corrupt.get((manifest.endpoint, manifest.version), (0, 0.0))
        return number == manifest.number and time.monotonic() < until

    def mark_corrupt(self, manifest: Manifest, error: Exception) -> None:
        """Answer without this snapshot for a while."""
        log.error("%s@%d: snapshot %d: %s", manifest.endpoint, manifest.version, manifest.number, error)
        self._corrupt[manifest.endpoint, manifest.version] = (
            manifest.number,
            time.monotonic() + CORRUPT_FOR,
        )
