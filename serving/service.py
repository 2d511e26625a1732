"""Everything that one serving process holds: opened at its start, closed at its end."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from time import monotonic
from typing import Self

from starlette.types import Scope

from endpoints import types
from endpoints.definition import Version, load_project
from endpoints.errors import UnsupportedType, WarehouseError
from endpoints.keys import KeyStore
from endpoints.lake.files import FileCache
from endpoints.lake.follow import Follower
from endpoints.lake.publish import Lake
from endpoints.lake.read import AssetReader
from endpoints.query.bind import Bound, live_statement
from endpoints.query.examples import example_values
from endpoints.settings import Settings
from endpoints.spool import Spool
from endpoints.types import Column
from endpoints.usage import Alike
from endpoints.warehouse import open_warehouse
from endpoints.warehouse.protocol import Statement, Warehouse
from serving.assets import Assets
from serving.auth import KeyRing, Principal
from serving.clock import Clock
from serving.forms import Forms
from serving.journal import Journal
from serving.lane import Lane
from serving.limits import Limits
from serving.link import Link
from serving.live import LiveRuns
from serving.loaded import Loaded
from serving.logs import told
from serving.metrics import Metrics, Parts
from serving.problems import HttpProblem
from serving.pulse import Pulse
from serving.record import Records
from serving.results import Results
from serving.shared import SharedRuns
from serving.shared_results import SharedResults
from serving.siblings import Siblings
from serving.tokens import Tokens
from serving.turns import Turns

log = logging.getLogger(__name__)

COLUMNS_FOR = 60.0  # seconds


class Service:
    """The clients of one process and the definitions it serves. Belongs to the event loop that opened it."""

    def __init__(
        self, settings: Settings, loaded: Loaded, assets: Assets, keys: KeyRing, warehouse: Warehouse
    ) -> None:
        self.settings, self.loaded, self.assets, self.keys = settings, loaded, assets, keys
        self.warehouse = warehouse
        self.clock = Clock()
        self.metrics = Metrics()
        self.journal = Journal(
            assets.lake.store,
            settings.cache_dir / "usage",
            most_bytes=settings.usage_spill_bytes,
            watch=self._count,
        )
        self.metrics.registry.register(Parts(self))
        self.siblings = Siblings(self.metrics.registry, settings.metrics_dir)
        self.records: Records = self.journal
        self.refused = 0  # requests without a valid key
        self.results = Results(settings.result_cache_bytes)
        self.redis = Link(settings.redis_url, settings) if settings.redis_url else None
        self.shared_results = SharedResults(self.redis) if self.redis else None
        self.live = LiveRuns(
            warehouse,
            concurrency=settings.live_at_once,
            queue=settings.live_queue,
            cache_bytes=settings.live_cache_bytes,
            memory_bytes=settings.live_memory_bytes,
            spool_bytes=settings.live_spool_bytes,
            spool_folder=settings.cache_dir / "live",
            shared=SharedRuns(self.redis) if self.redis else None,
        )
        self.limits = Limits(settings)
        self.pulse = Pulse(warehouse)
        self.lane = Lane(self)
        self.forms = Forms(self)
        self.turns = Turns()
        self._columns = _Columns(warehouse)

    @staticmethod
    def check(settings: Settings) -> None:
        """SettingsError where the settings cannot work together. No I/O."""
        KeyStore.open(settings)

    @classmethod
    def open(cls, settings: Settings, *, warehouse: Warehouse | None = None) -> Self:
        """Open every client, with `warehouse` in place of the settings' where one is given.

        A store or a warehouse that is down is not an error here: `/readyz` tells.
        """
        definitions = load_project(settings)
        for problem in definitions.problems:
            log.error("%s", problem)
        lake = Lake.open(settings, probe=False)  # nothing is published from here
        reader = AssetReader(
            FileCache.open(lake.store, settings),
            budget=settings.asset_memory_bytes,
            spool=partial(
                Spool, settings.live_memory_bytes, settings.live_spool_bytes, settings.cache_dir / "asset"
            ),
        )
        assets = Assets(lake, Follower(lake), reader)
        store = KeyStore.open(settings)
        keys = KeyRing(store, tokens=Tokens(settings), last_used=store.last_used)
        service = cls(settings, Loaded(definitions), assets, keys, warehouse or open_warehouse(settings))
        assets.start(definitions.versions)
        keys.start()
        service.journal.start()
        service.siblings.start()
        return service

    async def close(self) -> None:
        """Stop what runs, then let go of every client."""
        await self.live.close()
        if self.shared_results is not None:
            await self.shared_results.close()
        if self.redis is not None:
            await self.redis.close()
        await self.limits.close()
        self.keys.stop()
        self.assets.stop()
        self.pulse.close()
        self.warehouse.close()
        await asyncio.to_thread(self.journal.stop)
        self.siblings.stop()

    def _count(self, runs: list[Alike]) -> None:
        """Called a few times a second with the runs that have ended since, by a thread of the journal."""
        self.metrics.observe(runs)
        self.siblings.tell()

    def serve(self, loaded: Loaded) -> None:
        """Serve other definitions from the next request on."""
        self.assets.watch(loaded.definitions.versions)
        self.loaded = loaded

    async def admit(self, scope: Scope, *, basic: bool = False) -> Principal:
        """Who asks, having paid for it. `basic` as in `KeyRing.authenticate`. HttpProblem."""
        principal = await self.authenticate(scope, basic=basic)
        await self.limits.admit(scope, principal)
        return principal

    async def authenticate(self, scope: Scope, *, basic: bool = False) -> Principal:
        """Who asks, at no cost; who has no valid key is counted. HttpProblem."""
        try:
            return await self.keys.authenticate(scope["headers"], basic=basic)
        except HttpProblem as problem:
            self.refused += problem.kind.status == 401
            raise

    async def timezone(self, version: Version) -> str:
        """The time zone in which values without one are read: the warehouse's, as far as it is known."""
        manifest = self.assets.manifest(version)
        if self.pulse.timezone is None and manifest is None and version.variables:
            await self.pulse.alive()
        return self.pulse.timezone or (manifest.server.timezone if manifest is not None else "UTC")

    def columns(self, version: Version) -> tuple[Column, ...]:
        """The result columns of a version, as the warehouse describes them. Blocks.

        Raises WarehouseError; UnsupportedType naming the column that cannot be sent.
        """
        return self._columns.of(version)

    def known_columns(self, version: Version) -> tuple[Column, ...]:
        """The result columns, or none where the warehouse does not tell. Blocks."""
        try:
            return self.columns(version)
        except (WarehouseError, UnsupportedType) as error:
            log.warning("%s: no columns to describe: %s", version.key, told(error))
            return ()


class _Columns:
    """DESCRIBE of every version, at most once a minute each: the tables behind one may change."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._known: dict[tuple[str, str], tuple[float, tuple[Column, ...]]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def of(self, version: Version) -> tuple[Column, ...]:
        known = self._fresh(version)
        if known is not None:
            return known
        with self._locks.setdefault(version.key, threading.Lock()):
            known = self._fresh(version)  # another thread may have asked while this one waited
            if known is None:
                known = self._warehouse.describe(_example(version))
                types.check_storable(known)  # before a query fails on sorting by such a column
                self._known[version.key, version.fingerprint] = (monotonic(), known)
            return known

    def _fresh(self, version: Version) -> tuple[Column, ...] | None:
        at, columns = self._known.get((version.key, version.fingerprint), (float("-inf"), ()))
        return columns if monotonic() - at < COLUMNS_FOR else None


def _example(version: Version) -> Statement:
    """The query with some value of the right type in every place: enough for its columns and types."""
    return live_statement(Bound(version, example_values(version), frozenset(), ""))
