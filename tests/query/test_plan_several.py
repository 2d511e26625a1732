"""Several SELECTs stored side by side: what is stored, what reads it, and what is too much to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoints.query.inline import inlined
from endpoints.query.plan import Plan, Refused, check, make_plan
from tests.parity.data import write_tables
from tests.parity.harness import Bench, version_of

BESIDE = "SELECT count() AS c FROM (SELECT k FROM t WHERE g = {g:String}) AS a JOIN u ON a.k = u.k AND w > 1"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    data: Path = tmp_path_factory.mktemp("data")
    write_tables(data, seed=7)
    bench = Bench.over(data, tmp_path_factory.mktemp("lake"))
    yield bench
    bench.close()


def test_each_select_is_a_part_and_the_text_around_them_stays() -> None:
    plan = make_plan(version_of(BESIDE))
    assert isinstance(plan, Plan)
    assert plan.finish_sql is not None
    read = "(SELECT * FROM __asset0) AS a JOIN (SELECT * FROM __asset1) AS u ON a.k = u.k"
    assert plan.finish_sql.startswith(f"SELECT count() AS c FROM {read}")
    carried, beside = plan.parts
    assert [(d.variable, d.expression) for d in carried.seek] == [("g", "g")]
    assert beside.materialize_sql == "SELECT * FROM u"


def test_only_named_columns_of_whole_tables_are_stored(bench: Bench) -> None:
    plan = bench.plan(version_of(BESIDE))
    assert isinstance(plan, Plan)
    assert "`__p1_w`" in plan.materialize_sql
    assert "plan" not in plan.materialize_sql


def test_one_text_is_stored_once() -> None:
    sql = "WITH a AS (SELECT k FROM t WHERE k = {k:String}) SELECT (SELECT count() FROM a), k FROM a, u"
    plan = make_plan(version_of(sql))
    assert isinstance(plan, Plan)
    assert len(plan.parts) == 2


def test_what_each_request_would_read_whole_has_a_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "MOST_UNSOUGHT", 10)
    refused = bench.plan(version_of(BESIDE))
    assert isinstance(refused, Refused)
    assert [reason.code for reason in refused.reasons] == ["unsought"]


def test_a_select_of_with_is_written_where_it_is_read() -> None:
    sql = "WITH a AS (SELECT 1 AS x), 2 AS y, b AS (SELECT x FROM a) SELECT * FROM b JOIN a AS c ON b.x = c.x"
    assert inlined(sql) == (
        "WITH  2 AS y SELECT * FROM (SELECT x FROM (SELECT 1 AS x\n) AS a\n) AS b JOIN (SELECT 1 AS x\n) AS c"
        " ON b.x = c.x"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "WITH a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a WHERE x < 9) SELECT * FROM a",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM (WITH a AS (SELECT 2 AS x) SELECT * FROM a), a",
    ],
)
def test_a_with_that_reads_itself_or_shares_its_name_stays(sql: str) -> None:
    assert inlined(sql) is None
