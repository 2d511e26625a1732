"""PREWHERE, FINAL and SAMPLE, which files do not have: over MergeTree tables of 26.9 and of 18.16.

Both are asked over the native protocol. What finishes is evaluated by 26.9; beside the older server only what
Arrow compares is served, and every query here names its order: it takes no column by its number.
"""

# ruff: noqa: E501  (a table: one row a line)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from clickhouse_driver import Client

from endpoints.warehouse.native import NativeWarehouse
from tests.parity.harness import Bench, Case
from tests.parity.shapes import Shape
from tests.warehouse.modern_server import modern_server

KEYS: Sequence[dict[str, object]] = [{"k": "1"}, {"k": "none"}]
RANGE: Sequence[dict[str, object]] = [{"k": "1", "x": 40}, {"k": "4", "x": 999}]
TABLES = (
    "CREATE TABLE events (k String, id UInt32, x Int64) ENGINE = MergeTree() PARTITION BY tuple() "
    "ORDER BY (k, intHash32(id)) SAMPLE BY intHash32(id)",
    "INSERT INTO events SELECT toString(id % 5), id, id % 97 FROM (SELECT arrayJoin(range(2000)) AS id)",
    "CREATE TABLE latest (id UInt32, k String, x Int64, v UInt32) ENGINE = ReplacingMergeTree(v) "
    "PARTITION BY tuple() ORDER BY id",
    "INSERT INTO latest SELECT id, toString(id % 5), id, 1 FROM (SELECT arrayJoin(range(60)) AS id)",
    "INSERT INTO latest SELECT id, toString(id % 3), 0 - id, 2 FROM (SELECT arrayJoin(range(30)) AS id)",
)
SHAPES = [
    Shape("prewhere", "SELECT id, x FROM events PREWHERE k = {k:String} ORDER BY id", KEYS),
    Shape("prewhere and where", "SELECT id FROM events PREWHERE k = {k:String} WHERE x < {x:Int64} ORDER BY id", RANGE),
    Shape("prewhere, groups", "SELECT x, count() AS c FROM events PREWHERE k = {k:String} GROUP BY x ORDER BY c DESC, x", KEYS),
    Shape("final", "SELECT id, x, v FROM latest FINAL WHERE k = {k:String} ORDER BY id", KEYS),
    Shape("final, groups", "SELECT v, count() AS c, sum(x) AS s FROM latest FINAL WHERE k = {k:String} GROUP BY v ORDER BY v", KEYS),
    Shape("prewhere and final", "SELECT id FROM latest FINAL PREWHERE k = {k:String}", KEYS, "prewhere_final"),
    Shape("sample", "SELECT id FROM events SAMPLE 0.25 WHERE k = {k:String} ORDER BY id", KEYS),
    Shape("sample as a fraction", "SELECT count() AS c, x FROM events SAMPLE 1/3 WHERE k = {k:String} GROUP BY x ORDER BY x", KEYS),
    Shape("sample with an offset", "SELECT id FROM events SAMPLE 1/10 OFFSET 1/2 WHERE k = {k:String} ORDER BY id", KEYS),
    Shape("sample of a number of rows", "SELECT id FROM events SAMPLE 100 WHERE k = {k:String}", KEYS, "sample"),
]  # fmt: skip
FINISHED = [
    Shape("prewhere, limit", "SELECT x, count() AS c FROM events PREWHERE k = {k:String} GROUP BY x ORDER BY c DESC LIMIT 9", KEYS),
    Shape("sample with an offset below a cut", "SELECT count() AS c FROM events SAMPLE 0.1 OFFSET 0.5 WHERE x > {x:Int64} LIMIT 1 OFFSET 0", [{"x": 5}]),
    Shape("prewhere below a cut", "SELECT count() AS c, uniq(id) AS u FROM events PREWHERE x > {x:Int64} WHERE k = {k:String}", RANGE),
    Shape("prewhere, optional", "SELECT x, uniq(id) AS u FROM events PREWHERE k = {k:String} GROUP BY x ORDER BY x", [*KEYS, {}], optional=frozenset({"k"})),
    Shape("final below a cut", "SELECT v, count() AS c, avg(x) AS a FROM latest FINAL WHERE x > {x:Int64} GROUP BY v", [{"x": 3}, {"x": -9}]),
    Shape("final, LIKE", "SELECT id, k FROM latest FINAL WHERE k LIKE {k:String} ORDER BY id", KEYS),
    Shape("final, rows beneath", "SELECT countIf(x > {x:Int64}) AS c FROM latest FINAL WHERE k = {k:String}", RANGE),
    Shape("final, a table beside", "SELECT a.id AS id, b.v AS v FROM (SELECT id FROM events WHERE k = {k:String}) AS a JOIN latest AS b FINAL ON a.id = b.id ORDER BY id", KEYS, "placeholder_in_from"),
    Shape("sample below a cut", "SELECT count() AS c FROM events SAMPLE 0.5 WHERE x > {x:Int64} AND k = {k:String}", RANGE),
    Shape("sample in a subquery", "SELECT max(c) AS m FROM (SELECT k, count() AS c FROM events SAMPLE 0.5 WHERE x > {x:Int64} GROUP BY k)", [{"x": 5}]),
]  # fmt: skip


@contextmanager
def bench_of(url: str, folder: Path) -> Iterator[Bench]:
    bench = Bench(NativeWarehouse(url), folder)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with modern_server() as server:
        for statement in TABLES:
            server.session.query(statement)
        with bench_of(server.url, tmp_path_factory.mktemp("lake")) as bench:
            yield bench


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, clickhouse_url: str) -> Iterator[Bench]:
    client = Client.from_url(clickhouse_url)
    client.execute("DROP DATABASE IF EXISTS parity_mergetree")
    client.execute("CREATE DATABASE parity_mergetree")
    own = Client.from_url(f"{clickhouse_url}/parity_mergetree")
    for statement in TABLES:
        own.execute(statement)
    with bench_of(f"{clickhouse_url}/parity_mergetree", tmp_path_factory.mktemp("lake")) as bench:
        yield bench
    own.disconnect()
    client.execute("DROP DATABASE parity_mergetree")
    client.disconnect()


def check(bench: Bench, shape: Shape) -> None:
    outcome = bench.run(Case(shape.sql, shape.given, shape.optional))
    if shape.expected != "served":
        assert outcome.refused is not None, "served"
        assert shape.expected in [reason.code for reason in outcome.refused.reasons]
        return
    assert outcome.refused is None, outcome.refused
    assert not outcome.differences, "\n".join(outcome.differences)
    assert outcome.compared >= len(shape.given)


@pytest.mark.parametrize("shape", [*SHAPES, *FINISHED], ids=lambda shape: shape.name)
def test_shape_of_mergetree(modern: Bench, shape: Shape) -> None:
    check(modern, shape)


@pytest.mark.clickhouse
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shape_of_mergetree_of_an_old_server(old: Bench, shape: Shape) -> None:
    check(old, shape)
