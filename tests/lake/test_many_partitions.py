"""Ten thousand partitions of one version: the work done is that of what changes and of what is asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from endpoints.definition import Partitions
from endpoints.definition.model import Materialize
from endpoints.freshness import Fresh, standing
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import FileEntry, Server
from endpoints.lake.publish import Lake
from endpoints.lake.read import AssetReader
from endpoints.lake.store import Store
from endpoints.lake.touched import touched
from endpoints.partitions import keys
from endpoints.query.bind import bind
from endpoints.query.plan import Plan, make_plan
from endpoints.types import Column, parse_type
from tests.parity.harness import version_of

HOURS = 10_000
NOW = datetime(2026, 2, 21, 15, 30, tzinfo=UTC)
BY_HOUR = Partitions("ts", "hour", NOW.replace(minute=0) - timedelta(hours=HOURS - 1))
COLUMNS = tuple(Column(name, parse_type(text)) for name, text in (("at", "DateTime"), ("__d0", "DateTime")))
SERVER = Server("26.9", "UTC", "DateTime")
FILE = FileEntry("data/a/p-0.parquet", 1, 100, "sha256:0")


class Counting(Store):
    """A store that counts what is asked of it."""

    reads = writes = 0

    def get(self, key: str) -> bytes | None:
        self.reads += 1
        return super().get(key)

    def put(self, *arguments: Any, **more: Any) -> Any:
        self.writes += 1
        return super().put(*arguments, **more)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(f"file://{tmp_path}/lake")


def test_publishing_and_asking_touch_a_few(store: Counting, tmp_path: Path) -> None:
    version = version_of(
        "SELECT toStartOfHour(ts) AS at FROM t WHERE at >= {a:DateTime} GROUP BY at ORDER BY at"
    )
    version = replace(version, materialize=Materialize(None, None, BY_HOUR), freshness=timedelta(hours=1))
    plan = make_plan(version)
    assert isinstance(plan, Plan)
    lake, every = Lake(store), keys(BY_HOUR, NOW)
    assert every is not None
    assert len(every) == HOURS

    def publish(*which: str) -> None:
        attempt = lake.begin("parity", version.number, fingerprint="f", run_id="r", partitions=which)
        entry = attempt.entry([FILE], COLUMNS, as_of=NOW)
        attempt.publish(dict.fromkeys(which, entry), SERVER, existing=frozenset(every))

    publish(*every)
    everything = store.writes
    store.reads = store.writes = 0
    publish(every[-1])
    assert store.writes < 6 < everything, "one segment and the hint; the others are named again"
    lake.head("parity", version.number)
    store.reads = 0
    publish(every[0])
    manifest = lake.head("parity", version.number)
    assert store.reads < 30, "segments that have been read are not read again"
    assert manifest is not None
    assert len(manifest.partitions) == HOURS
    bound = bind(version, {"a": "2026-02-21T13:00:00Z"}, now=NOW)
    needed = touched(plan, bound, manifest, NOW)
    assert needed == tuple(every[-3:])
    assert standing(version, manifest, NOW, needed).state == Fresh()

    opened: list[str] = []

    class Opening(FileCache):
        def local(self, endpoint: str, version: int, file: FileEntry) -> Path:
            opened.append(file.path)
            raise FileNotFoundError(file.path)

    reader = AssetReader(Opening(store, tmp_path / "cache", 2**20))
    with pytest.raises(FileNotFoundError):
        reader.read(manifest, plan, bound, limit=None, offset=0, max_rows=10)
    assert len(opened) == 1
