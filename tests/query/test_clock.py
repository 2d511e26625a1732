"""`clock: as_of`: the clock's functions as constants of one moment, of the types and names that they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from endpoints.query.bind import bind, live_statement
from endpoints.query.clock import CLOCK, at_moment, clock_calls
from endpoints.query.lexer import significant, tokenize
from endpoints.types import Column, parse_type, storage_schema
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.finish import Finisher
from endpoints.warehouse.protocol import Caps, Statement
from tests.parity.harness import version_of

MOMENT = datetime(2026, 1, 1, 20, 30, 15, 123456, tzinfo=UTC)
SECONDS = 1767299415
CALLS = (
    *("now()", "NOW()", "now('Asia/Kolkata')", "current_timestamp()", "CURRENT_TIMESTAMP", "LOCALTIMESTAMP"),
    *("utcTimestamp()", "UTC_timestamp()", "nowInBlock()", "nowInBlock('UTC')", "now64()", "now64(6)"),
    *("now64(9, 'UTC')", "nowInBlock64(3)", "today()", "curdate()", "current_date()", "CURRENT_DATE"),
    *("yesterday()", "now() + 1", "toHour(now64( 3 ))", "toDate(now()) - today()", "(now(), today())"),
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedWarehouse]:
    warehouse = EmbeddedWarehouse(tmp_path_factory.mktemp("none"), workers=1)
    yield warehouse
    warehouse.close()


def test_the_text_around_the_clock_stays() -> None:
    sql = "SELECT now ( ) /* when */ AS t\nFROM a WHERE today > b.now() -- now()"
    assert at_moment(sql, MOMENT) == (
        f"SELECT (toDateTime({SECONDS}) AS `now()`) /* when */ AS t\nFROM a WHERE today > b.now() -- now()"
    )


@pytest.mark.parametrize("sql", ["SELECT now", "SELECT t.today()", "SELECT 1 AS current_date", "SELECT now("])
def test_what_reads_no_clock_stays(sql: str) -> None:
    assert at_moment(sql, MOMENT) == sql


def test_a_clock_within_a_clock_is_bound_with_it() -> None:
    assert at_moment("SELECT now(toString(today()))", MOMENT).count("toDateTime(") == 1


@pytest.mark.parametrize("call", CALLS)
def test_types_and_names_are_those_of_the_clock(warehouse: EmbeddedWarehouse, call: str) -> None:
    sql = f"SELECT {call}"
    assert warehouse.describe(Statement(at_moment(sql, MOMENT))) == warehouse.describe(Statement(sql))


def test_every_clock_is_tried() -> None:
    tokens = [significant(tokenize(call)) for call in CALLS]
    tried = {found[at].name.lower() for found in tokens for at in clock_calls(found)}
    assert CLOCK - tried == {"localtime"}


def test_the_moment_is_the_one_given(warehouse: EmbeddedWarehouse) -> None:
    numbers = "toUnixTimestamp64Micro(now64(6)), toUnixTimestamp(now()), today() - yesterday()"
    sql = f"SELECT now() = now64(0), {numbers}"
    with warehouse.run(Statement(at_moment(sql, MOMENT)), Caps()) as result:
        row = pa.Table.from_batches(list(result)).to_pylist()[0]
    assert list(row.values()) == [1, SECONDS * 1_000_000 + 123456, SECONDS, 1]


def test_days_are_those_of_the_session(tmp_path: Path) -> None:
    """At 20:30 UTC it is the next day in India: where an asset is read, as on a server that lies there."""
    columns = (Column("x", parse_type("UInt8")),)
    rows = pa.table({"x": [1]}, schema=storage_schema(columns))
    sql = "SELECT toString(today()) AS a, toString(yesterday()) AS b, toString(now()) AS c FROM __rows"
    finisher = Finisher(workers=1)
    try:
        statement = Statement(at_moment(sql, MOMENT))
        _, table = finisher.run(statement, columns, rows, timezone="Asia/Kolkata", caps=Caps())
    finally:
        finisher.close()
    assert table.to_pylist() == [{"a": b"2026-01-02", "b": b"2026-01-01", "c": b"2026-01-02 02:00:15"}]


def test_live_runs_are_bound_to_the_moment_of_the_request() -> None:
    version = version_of("SELECT now() AS n FROM t WHERE k = {k:String}", clock="as_of")
    one, other = (bind(version, {"k": "a"}, now=replace_second(second)) for second in (1, 2))
    assert f"toDateTime({SECONDS - 15 + 1})" in live_statement(one, total_order=1).sql
    assert one.key == other.key, "the moment is no value: answers are shared while `cache` says so"
    plain = replace(version, clock=None)
    assert "now()" in live_statement(bind(plain, {"k": "a"}, now=MOMENT), total_order=1).sql


def replace_second(second: int) -> datetime:
    return MOMENT.replace(second=second, microsecond=0)
