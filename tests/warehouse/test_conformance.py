"""What every warehouse must do: the same tests, on chDB and on a real server of 2018."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.errors import (
    BadQuery,
    OverLimit,
    QueryCancelled,
    QueryTimeout,
    UnsupportedType,
    WarehouseError,
    WarehouseUnavailable,
)
from endpoints.types import parse_type, storage_schema
from endpoints.warehouse.protocol import Caps, Statement, Warehouse
from tests.warehouse.parameters import INSTANT, PARAMETERS

MINUTE = Caps(timeout=timedelta(minutes=1))
ENDLESS = "SELECT sum(sipHash64(number)) FROM system.numbers"
ENDLESS_ROWS = "SELECT number FROM system.numbers"

# Expression, its type, its value in storage form: what a server of 2018 has too.
VALUES: list[tuple[str, str, Any]] = [
    ("toUInt8(255)", "UInt8", 255),
    ("toUInt16(65535)", "UInt16", 65535),
    ("toUInt32(4294967295)", "UInt32", 4294967295),
    ("toUInt64(18446744073709551615)", "UInt64", 18446744073709551615),
    ("toInt8(-128)", "Int8", -128),
    ("toInt16(-32768)", "Int16", -32768),
    ("toInt32(-2147483648)", "Int32", -2147483648),
    ("toInt64(-9223372036854775808)", "Int64", -9223372036854775808),
    ("toFloat32(0.5)", "Float32", 0.5),
    ("0.1", "Float64", 0.1),
    ("'héllo'", "String", "héllo".encode()),
    ("unhex('FF00FE')", "String", b"\xff\x00\xfe"),
    ("toFixedString('ab', 4)", "FixedString(4)", b"ab\0\0"),
    ("toDate('2024-02-29')", "Date", date(2024, 2, 29)),
    ("toDateTime(1711845000)", "DateTime", INSTANT),
    ("toDateTime(1711845000, 'Asia/Tokyo')", "DateTime('Asia/Tokyo')", INSTANT),
    ("toDecimal32('-1.50', 2)", "Decimal(9, 2)", Decimal("-1.50")),
    ("toDecimal64('12345678901.2345', 4)", "Decimal(18, 4)", Decimal("12345678901.2345")),
    ("toDecimal128('0.00000000000000000001', 20)", "Decimal(38, 20)", Decimal("1E-20")),
    ("CAST('b' AS Enum8('a' = -1, 'b' = 2))", "Enum8('a' = -1, 'b' = 2)", "b"),
    ("CAST('b' AS Enum16('a' = 1, 'b' = 1000))", "Enum16('a' = 1, 'b' = 1000)", "b"),
    (
        "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')",
        "UUID",
        UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0").bytes,
    ),
    ("CAST(NULL AS Nullable(Int64))", "Nullable(Int64)", None),
    ("CAST('x' AS Nullable(String))", "Nullable(String)", b"x"),
    ("CAST(NULL AS Nullable(DateTime))", "Nullable(DateTime)", None),
    ("[toUInt8(1), 2]", "Array(UInt8)", [1, 2]),
    ("[['a'], [], ['b', 'c']]", "Array(Array(String))", [[b"a"], [], [b"b", b"c"]]),
    ("[CAST(1 AS Nullable(UInt8)), NULL]", "Array(Nullable(UInt8))", [1, None]),
    ("[toDate('2024-02-29')]", "Array(Date)", [date(2024, 2, 29)]),
    ("[toDateTime(1711845000)]", "Array(DateTime)", [INSTANT]),
    (
        "(toUInt8(1), 'x', toDate('2024-02-29'))",
        "Tuple(UInt8, String, Date)",
        {"1": 1, "2": b"x", "3": date(2024, 2, 29)},
    ),
    ("[(toUInt8(1), 'x')]", "Array(Tuple(UInt8, String))", [{"1": 1, "2": b"x"}]),
]


@pytest.mark.parametrize(("expression", "type_text", "value"), VALUES)
def test_a_value_and_its_type(
    warehouse: Warehouse, ask: Any, expression: str, type_text: str, value: Any
) -> None:
    sql = f"SELECT {expression} AS x"
    assert [column.type for column in warehouse.describe(Statement(sql))] == [parse_type(type_text)]
    with warehouse.run(Statement(sql), MINUTE) as result:
        assert [(c.name, c.type) for c in result.columns] == [("x", parse_type(type_text))]
        [batch] = result
    assert batch.schema == storage_schema(result.columns)
    assert batch.column(0).to_pylist() == [value]


@pytest.mark.parametrize(("type_text", "value", "stored"), PARAMETERS)
def test_a_parameter_arrives_as_it_was(
    warehouse: Warehouse, ask: Any, type_text: str, value: Any, stored: Any
) -> None:
    sql = f"SELECT {{p:{type_text}}} AS x, [{{p:{type_text}}}] AS again -- not {{p:{type_text}}}"
    table = ask(
        warehouse,
        sql if value is not None else sql.replace(f", [{{p:{type_text}}}] AS again", ""),
        p=(type_text, value),
    )
    assert table.column("x").to_pylist() == [stored]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=50))
def test_any_string_is_bound_not_spliced(warehouse: Warehouse, ask: Any, text: str) -> None:
    table = ask(warehouse, "SELECT {s:String} AS s, length({s:String}) AS n", s=("String", text))
    assert table.to_pylist() == [{"s": text.encode(), "n": len(text.encode())}]


def test_placeholders_in_strings_and_comments_are_left_alone(warehouse: Warehouse, ask: Any) -> None:
    sql = "SELECT '{p:UInt8}' AS s, /* {p:UInt8} */ {p:UInt8} AS p -- {p:UInt8};\n;"
    assert ask(warehouse, sql, p=("UInt8", 7)).to_pylist() == [{"s": b"{p:UInt8}", "p": 7}]


def test_an_empty_result_has_columns(warehouse: Warehouse) -> None:
    with warehouse.run(Statement("SELECT 1 AS a, 'x' AS b WHERE 0"), MINUTE) as result:
        assert [column.name for column in result.columns] == ["a", "b"]
        assert sum(batch.num_rows for batch in result) == 0


def test_many_rows_come_in_batches_and_in_order(warehouse: Warehouse) -> None:
    sql = "SELECT number AS n, toString(number) AS s FROM system.numbers LIMIT 300000"
    with warehouse.run(Statement(sql), MINUTE) as result:
        batches = list(result)
    assert len(batches) > 1
    assert pa.Table.from_batches(batches).column("n").to_pylist() == list(range(300_000))


def test_large_strings(warehouse: Warehouse, ask: Any) -> None:
    long = "arrayStringConcat(arrayMap(i -> 'xxxxxxxxxx', range(100000)))"
    table = ask(warehouse, f"SELECT {long} AS s FROM system.numbers LIMIT 20")
    assert [len(value.as_py()) for value in table.column("s")] == [1_000_000] * 20


def test_describe_does_not_run_the_query(warehouse: Warehouse) -> None:
    columns = warehouse.describe(Statement("SELECT throwIf(number >= 0) AS x, number FROM system.numbers"))
    assert [(column.name, str(column.type)) for column in columns] == [("x", "UInt8"), ("number", "UInt64")]


def test_describe_binds_parameters(warehouse: Warehouse) -> None:
    statement = Statement("SELECT {n:Int16} AS n", {"n": (parse_type("Int16"), 1)})
    assert [str(column.type) for column in warehouse.describe(statement)] == ["Int16"]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELEC 1", 62),
        ("SELECT 1 +", 62),
        ("SELECT * FROM nowhere", 60),
        ("SELECT nothing FROM system.one", 47),
        ("SELECT nonsense(1)", 46),
    ],
)
def test_a_bad_query_says_so_with_clickhouses_code(
    warehouse: Warehouse, ask: Any, sql: str, code: int
) -> None:
    with pytest.raises(BadQuery) as error:
        ask(warehouse, sql)
    assert error.value.clickhouse_code == code
    assert "Stack trace" not in str(error.value)
    with pytest.raises(BadQuery):
        warehouse.describe(Statement(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO system.one VALUES (1)",
        "CREATE TABLE made (a UInt8) ENGINE = Memory",
        "DROP TABLE system.one",
        "SET readonly = 0",
        "SELECT 1; SELECT 2",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 3600",
        "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')",
        "SELECT * FROM file('/etc/passwd', CSV, 'a String')",
    ],
)
def test_nothing_but_reading(warehouse: Warehouse, ask: Any, sql: str) -> None:
    with pytest.raises(BadQuery):
        ask(warehouse, sql)


def test_a_querys_own_settings_count(warehouse: Warehouse, ask: Any) -> None:
    sql = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    own = "SETTINGS max_block_size = 123, max_threads = 1"
    assert ask(warehouse, f"{sql} {own}").to_pylist() == [{"value": b"123"}]
    assert [str(c.type) for c in warehouse.describe(Statement(f"{sql} {own}"))] == ["String"]


def test_a_failure_after_many_rows(warehouse: Warehouse, ask: Any) -> None:
    """The rows before it were delivered: a result is good only once it has ended. The next one is clean."""
    sql = "SELECT number, throwIf(number = 2000000) AS f FROM system.numbers"
    with warehouse.run(Statement(sql), MINUTE) as result:
        assert next(iter(result)).num_rows > 0
        with pytest.raises(BadQuery) as error:
            list(result)
    assert error.value.clickhouse_code == 395
    for _ in range(3):
        assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


@pytest.mark.parametrize("failing", [ENDLESS, ENDLESS_ROWS])
def test_time_limit(warehouse: Warehouse, ask: Any, failing: str) -> None:
    with pytest.raises(QueryTimeout) as error:
        ask(warehouse, failing, timeout=0.3)
    assert error.value.clickhouse_code == 159
    assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_memory_limit(warehouse: Warehouse, ask: Any) -> None:
    with pytest.raises(OverLimit) as error:
        ask(warehouse, "SELECT groupArray(number) FROM system.numbers", max_memory=50_000_000)
    assert error.value.clickhouse_code == 241


@pytest.mark.parametrize("rows", [1, 10, 65_536, 100_000])
def test_row_limit_is_exact(warehouse: Warehouse, ask: Any, rows: int) -> None:
    sql = f"SELECT number FROM system.numbers LIMIT {rows}"
    assert ask(warehouse, sql, max_rows=rows).num_rows == rows
    with pytest.raises(OverLimit) as error:
        ask(warehouse, f"SELECT number FROM system.numbers LIMIT {rows + 1}", max_rows=rows)
    assert error.value.clickhouse_code == 396


@pytest.mark.parametrize("sql", [ENDLESS, ENDLESS_ROWS])
def test_cancel_from_another_thread(warehouse: Warehouse, ask: Any, sql: str) -> None:
    result = warehouse.run(Statement(sql), Caps())
    timer = threading.Timer(0.2, result.cancel)
    timer.start()
    with pytest.raises(QueryCancelled):
        for _ in result:
            pass
    timer.join()
    result.close()
    assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_cancel_while_nobody_reads(warehouse: Warehouse, ask: Any) -> None:
    result = warehouse.run(Statement(ENDLESS_ROWS), Caps())
    reading = iter(result)
    next(reading)
    result.cancel()
    with pytest.raises(QueryCancelled):
        for _ in reading:
            pass
    assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_cancel_after_the_end_does_nothing(warehouse: Warehouse, ask: Any) -> None:
    result = warehouse.run(Statement("SELECT 1 AS x"), MINUTE)
    assert len(list(result)) == 1
    result.cancel()
    result.close()
    result.close()
    assert list(result) == []


def test_leaving_early(warehouse: Warehouse, ask: Any) -> None:
    for _ in range(3):
        with warehouse.run(Statement(ENDLESS_ROWS), Caps()) as result:
            assert next(iter(result)).num_rows > 0
        assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_a_result_closed_early_is_not_taken_for_a_short_one(warehouse: Warehouse) -> None:
    result = warehouse.run(Statement(ENDLESS), Caps())
    result.close()
    with pytest.raises(QueryCancelled):
        list(result)


def test_a_second_loop_goes_on(warehouse: Warehouse) -> None:
    sql = "SELECT number FROM system.numbers LIMIT 200000"
    with warehouse.run(Statement(sql), MINUTE) as result:
        rows = next(iter(result)).column(0).to_pylist()
        for batch in result:
            rows += batch.column(0).to_pylist()
    assert rows == list(range(200_000))


def test_two_results_at_once(warehouse: Warehouse) -> None:
    sql = "SELECT number + {start:UInt32} AS n FROM system.numbers LIMIT 200000"
    starts = (0, 1_000_000)
    statements = [Statement(sql, {"start": (parse_type("UInt32"), start)}) for start in starts]
    with warehouse.run(statements[0], MINUTE) as one, warehouse.run(statements[1], MINUTE) as two:
        rows: list[list[int]] = [[], []]
        for batches in zip(one, two, strict=True):
            for values, batch in zip(rows, batches, strict=True):
                values += batch.column(0).to_pylist()
    assert rows == [list(range(start, start + 200_000)) for start in starts]


def test_describe_while_results_are_open(warehouse: Warehouse) -> None:
    with warehouse.run(Statement(ENDLESS_ROWS), Caps()), warehouse.run(Statement(ENDLESS_ROWS), Caps()):
        assert len(warehouse.describe(Statement("SELECT 1, 2"))) == 2


def test_many_threads(warehouse: Warehouse, ask: Any) -> None:
    def one(i: int) -> bool:
        if i % 5 == 0:
            with pytest.raises(WarehouseError):
                ask(warehouse, "SELECT number, throwIf(number = 100000) FROM system.numbers")
        table = ask(
            warehouse, "SELECT {i:UInt32} AS i, number FROM system.numbers LIMIT 70000", i=("UInt32", i)
        )
        return set(table.column("i").to_pylist()) == {i} and table.num_rows == 70_000

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(one, range(40)))


def test_query_id(warehouse: Warehouse) -> None:
    mine = str(uuid4())
    with warehouse.run(Statement("SELECT 1"), MINUTE, query_id=mine) as result:
        assert result.query_id == mine
    with warehouse.run(Statement("SELECT 1"), MINUTE) as result:
        assert result.query_id


def test_what_cannot_be_stored_is_refused_by_column(warehouse: Warehouse) -> None:
    with (
        pytest.raises(UnsupportedType) as error,
        warehouse.run(Statement("SELECT 1 AS a, NULL AS b"), MINUTE),
    ):
        pass
    assert error.value.column == "b"


def test_server(warehouse: Warehouse) -> None:
    info = warehouse.server()
    assert abs(info.now - datetime.now(UTC)) < timedelta(minutes=5)
    assert info.now.tzinfo is UTC
    with warehouse.run(Statement("SELECT timezone() AS zone, version() AS version"), MINUTE) as result:
        [batch] = result
    assert batch.to_pylist() == [{"zone": info.timezone.encode(), "version": info.version.encode()}]
    assert result.timezone == info.timezone
    warehouse.ping()


def test_a_closed_warehouse_says_so(warehouse: Warehouse) -> None:
    again = reopened(warehouse)
    again.ping()
    running = again.run(Statement(ENDLESS_ROWS), Caps())
    again.close()
    again.close()
    with pytest.raises(WarehouseError):
        for _ in running:
            pass
    running.close()
    with pytest.raises(WarehouseUnavailable):
        again.ping()


def reopened(warehouse: Any) -> Warehouse:
    """Another warehouse of the same kind over the same data."""
    source = getattr(warehouse, "folder", None) or warehouse.url
    fresh: Warehouse = type(warehouse)(source)
    return fresh
