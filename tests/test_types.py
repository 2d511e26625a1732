"""The type table: the grammar, what is refused and how, and how columns come in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chdb.session import Session
from hypothesis import given
from hypothesis import strategies as st

import endpoints.types
from endpoints.errors import BadQuery, UnsupportedType
from endpoints.types import (
    Column,
    check_storable,
    csv_values,
    example_value,
    families,
    json_values,
    openapi_schema,
    parse_type,
    polars_type,
    render_literal,
    storage_schema,
    storage_type,
    structure,
    to_scalar,
    to_storage,
)
from endpoints.types.refused import WAYS_OUT

DOC = Path(__file__).parents[1] / "docs" / "types.md"


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


def rows(session: Session, sql: str) -> list[list[Any]]:
    return orjson.loads(session.query(sql, "JSONCompact").bytes())["data"]  # type: ignore[no-any-return]


# Grammar ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("  UInt8 ", "UInt8"),
        ("Tuple(\n    a UInt8,\n    `b c` Array(String))", "Tuple(a UInt8, `b c` Array(String))"),
        ("Tuple(`a\\`b` UInt8)", "Tuple(`a\\`b` UInt8)"),
        ("Map(String,Array(Nullable(UInt8)))", "Map(String, Array(Nullable(UInt8)))"),
        ("Enum8('b'=2,'a'=1)", "Enum8('a' = 1, 'b' = 2)"),
        ("Enum8('it''s' = 1, 'x\\ty' = -1)", "Enum8('x\\ty' = -1, 'it\\'s' = 1)"),
        ("Enum('a', 'b')", "Enum8('a' = 1, 'b' = 2)"),
        ("Enum('a' = 500, 'b')", "Enum16('a' = 500, 'b' = 501)"),
        ("Enum8('a,(b' = 1, ')' = 2)", "Enum8('a,(b' = 1, ')' = 2)"),
        ("Decimal32(2)", "Decimal(9, 2)"),
        ("Decimal(10)", "Decimal(10, 0)"),
        ("Decimal256(5)", "Decimal(76, 5)"),
        ("DateTime64", "DateTime64(3)"),
        ("DateTime64(6,'Asia/Tokyo')", "DateTime64(6, 'Asia/Tokyo')"),
        ("SimpleAggregateFunction(sum,UInt64)", "SimpleAggregateFunction(sum, UInt64)"),
        (
            "AggregateFunction(quantiles(0.5, 0.9), Float64)",
            "AggregateFunction(quantiles(0.5, 0.9), Float64)",
        ),
    ],
)
def test_types_have_one_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_type(text)) == canonical
    assert parse_type(canonical) == parse_type(text)
    assert hash(parse_type(canonical)) == hash(parse_type(text))


def test_what_a_type_says_of_itself() -> None:
    t = parse_type("LowCardinality(Nullable(String))")
    assert (t.name, t.base.text, t.nullable) == ("LowCardinality", "String", True)
    t = parse_type("Nullable(DateTime64(3, 'Europe/Berlin'))")
    assert (t.timezone, t.base.numbers, t.inner.text) == (
        "Europe/Berlin",
        (3,),
        "DateTime64(3, 'Europe/Berlin')",
    )
    assert parse_type("DateTime").timezone is None
    assert parse_type("SimpleAggregateFunction(anyLast, Nullable(UInt8))").nullable
    assert not parse_type("Array(Nullable(UInt8))").nullable
    assert parse_type("Nested(a UInt8, b String)").base.text == "Array(Tuple(a UInt8, b String))"
    assert parse_type("Polygon").base.inner.base.inner.base.text == "Tuple(Float64, Float64)"
    assert [(m.name, m.number) for m in parse_type("Enum8('a' = 1, 'b' = -2)").members] == [
        ("b", -2),
        ("a", 1),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "  ",
            "1",
            "'a'",
            "UInt8)",
            "Array(UInt8",
            "Array()",
            "Array(UInt8, UInt8)",
            "Map(String)",
            "Nullable(1)",
        ),
        *(
            "Decimal(77, 2)",
            "Decimal(5, 6)",
            "DateTime64(10)",
            "FixedString(0)",
            "FixedString(x)",
            "Decimal(１, 0)",
        ),
        *(
            "Enum8()",
            "Enum8('a' = 300)",
            "Enum8('a' = 1, 'a' = 2)",
            "Enum8('a' = 1, 'b' = 1)",
            "Enum8('a = 1)",
        ),
        *(
            "DateTime(UTC)",
            "UInt8 UInt8",
            "Array(" * 40 + "UInt8" + ")" * 40,
            "Array(" * 3000 + "UInt8" + ")" * 3000,
        ),
    ],
)
def test_nonsense_is_no_type(text: str) -> None:
    with pytest.raises(UnsupportedType):
        parse_type(text)


@given(st.text("ATU8,()'`\\ =1ab\n", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_type_or_refused(text: str) -> None:
    try:
        t = parse_type(text)
    except UnsupportedType:
        return
    assert parse_type(t.text) == t


def test_clickhouse_knows_every_type_by_its_canonical_text(session: Session) -> None:
    for text in (
        *(
            "Tuple(a UInt8, `b c` Array(String))",
            "Enum8('it\\'s' = -1, 'b\\\\c' = 2)",
            "DateTime64(3, 'UTC')",
        ),
        *("Map(LowCardinality(String), Array(Nullable(Decimal(9, 2))))", "Tuple(`a\\`b` UInt8)"),
    ):
        [[said]] = rows(
            session,
            f"SELECT toTypeName(defaultValueOfTypeName({render_literal(parse_type('String'), text)}))",
        )
        assert parse_type(said).text == text


# Refused types ------------------------------------------------------------------------------------------

REFUSED = {
    "Object('json')": None,  # gone from ClickHouse 25
    "JSON": "'{\"a\": 1}'::JSON",
    "JSON(max_dynamic_paths=2, a UInt8)": "'{\"a\": 1}'::JSON(max_dynamic_paths=2, a UInt8)",
    "Variant(String, UInt8)": "1::Variant(String, UInt8)",
    "Dynamic": "1::Dynamic",
    "Geometry": "((1, 2)::Point)::Geometry",
    "AggregateFunction(uniq, UInt8)": "uniqState(1)",
    "Time": "'12:00:00'::Time",
    "Time64(3)": "'12:00:00.123'::Time64(3)",
    **{
        f"Interval{unit}": f"INTERVAL 1 {unit}"
        for unit in ("Second", "Minute", "Hour", "Day", "Week", "Month")
    },
    **{
        f"Interval{unit}": f"toInterval{unit}(1)"
        for unit in ("Quarter", "Year", "Nanosecond", "Microsecond", "Millisecond")
    },
    "BFloat16": "toBFloat16(1.5)",
    "QBit(Float32, 2)": "[1, 2]::QBit(Float32, 2)",
    "Nullable(Nothing)": "NULL",
    "Array(Nothing)": "[]",
    "Array(Dynamic)": "[1::Dynamic]",
    "Tuple(a Time, b UInt8)": "('12:00:00'::Time, 1)::Tuple(a Time, b UInt8)",
    "Map(String, Array(IntervalDay))": "map('a', [INTERVAL 1 DAY])",
    "Array(AggregateFunction(uniq, UInt8))": "[uniqState(1)]",
    "Array(Nullable(Nothing))": "[NULL]",
}


@pytest.mark.parametrize("text", REFUSED)
def test_the_way_out_of_a_refused_type_works(session: Session, text: str) -> None:
    with pytest.raises(UnsupportedType) as refused:
        check_storable([Column("fine", parse_type("UInt8")), Column("my col", parse_type(text))])
    assert refused.value.column == "my col"
    assert "my col" in str(refused.value)
    way_out = refused.value.fix.removeprefix("Select ").removesuffix(" instead.").partition(" or ")[0]
    if REFUSED[text] is None:
        return
    [[said]] = rows(session, f"SELECT toTypeName({REFUSED[text]})")
    assert parse_type(said).text == parse_type(text).text
    session.query("SET allow_experimental_qbit_type = 1")
    [[name]] = rows(session, f"SELECT toTypeName({way_out}) FROM (SELECT {REFUSED[text]} AS `my col`)")
    check_storable([Column("my col", parse_type(name))])


def test_every_refused_type_is_tried_and_every_row_is_not_refused() -> None:
    tried = {parse_type(text).base.name for text in REFUSED}
    assert tried >= set(WAYS_OUT)
    assert not set(WAYS_OUT) & {name for family in families() for name in family.names}


def test_other_refusals_name_the_column_too() -> None:
    with pytest.raises(UnsupportedType, match=r"'t'.*Leave the empty tuple out"):
        check_storable([Column("t", parse_type("Tuple()"))])
    with pytest.raises(UnsupportedType, match=r"'t'.*toTimeZone\(t, 'UTC'\)"):
        check_storable([Column("t", parse_type("Array(DateTime('Mars/Base'))"))])
    with pytest.raises(UnsupportedType, match=r"'t'.*Unheard is not a type"):
        check_storable([Column("t", parse_type("Array(Unheard)"))])
    with pytest.raises(BadQuery, match="'a'"):
        check_storable([Column("a", parse_type("UInt8")), Column("a", parse_type("UInt8"))])
    with pytest.raises(UnsupportedType):
        storage_type(parse_type("JSON"))


# How columns come in ------------------------------------------------------------------------------------


def test_what_clickhouse_driver_gives_comes_into_storage_form() -> None:
    """As its `query_arrow_stream` has it: addresses and UUIDs as text, FixedString cut, times in seconds."""
    u = "61f0c404-5cb3-11e7-907b-a6006ad3dba0"
    seconds = pa.array([0, 4294967295], pa.int64()).cast(pa.timestamp("s"))
    for text, array, shown in [
        ("UUID", pa.array([u, u]), [u, u]),
        ("Nullable(UUID)", pa.array([u, None]), [u, None]),
        ("IPv4", pa.array(["1.2.3.4", "255.255.255.255"]), ["1.2.3.4", "255.255.255.255"]),
        ("IPv6", pa.array(["::1", "::ffff:1.2.3.4"]), ["::1", "::ffff:1.2.3.4"]),
        ("FixedString(4)", pa.array([b"ab", b""], pa.binary()), ["ab", ""]),
        ("Nullable(FixedString(4))", pa.array(["ab", None]), ["ab", None]),
        ("DateTime", seconds, ["1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z"]),
        (
            "DateTime('UTC')",
            seconds.cast(pa.timestamp("s", "UTC")),
            ["1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z"],
        ),
        ("LowCardinality(String)", pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        ("Array(UUID)", pa.array([[u], []]), [[u], []]),
        (
            "Map(String, IPv4)",
            pa.array([[("a", "1.2.3.4")], []], pa.map_(pa.string(), pa.string())),
            [{"a": "1.2.3.4"}, {}],
        ),
        ("Int128", pa.array([Decimal(-5), None], pa.decimal256(76, 0)), ["-5", None]),
        ("Enum8('a' = 1)", pa.array([b"a", None], pa.binary()), ["a", None]),
    ]:
        t = parse_type(text)
        stored = to_storage(array, t)
        assert stored.type == storage_type(t)
        assert json_values(stored, t, timezone="UTC") == shown, text


def test_nulls_within_null_containers() -> None:
    t = parse_type("Nullable(Tuple(a UInt8, b Array(String), c Map(String, UInt8)))")
    value = {"a": 1, "b": ["x"], "c": {"k": 1}}
    array = pa.array(
        [value, None, value],
        pa.struct([("a", pa.uint8()), ("b", pa.list_(pa.string())), ("c", pa.map_(pa.string(), pa.uint8()))]),
    )
    stored = to_storage(array, t)
    assert json_values(stored, t, timezone="UTC") == [value, None, value]
    assert json_values(stored.slice(1, 2), t, timezone="UTC") == [None, value]
    assert to_storage(stored, t).equals(stored)


def test_values_that_need_care_in_json() -> None:
    def shown(text: str, values: list[Any], kind: pa.DataType, **how: Any) -> list[Any]:
        t = parse_type(text)
        return json_values(to_storage(pa.array(values, kind), t), t, **{"timezone": "UTC", **how})

    nan, inf = float("nan"), float("inf")
    assert shown("Float64", [nan, inf, -inf, 1.5], pa.float64()) == [None, None, None, 1.5]
    assert shown("Float32", [nan, 0.1, None], pa.float32()) == [None, 0.1, None]
    assert shown("Array(Float64)", [[nan, 1.0]], pa.list_(pa.float64())) == [[None, 1.0]]
    assert shown("UInt64", [2**64 - 1], pa.uint64()) == [2**64 - 1]
    assert shown("UInt64", [2**64 - 1], pa.uint64(), integers="string") == ["18446744073709551615"]
    assert shown("UInt32", [1], pa.uint32(), integers="string") == [1]
    assert shown("Array(Int64)", [[1]], pa.list_(pa.int64()), integers="string") == [["1"]]
    assert shown("Map(UInt64, Int64)", [[(1, 2)]], pa.map_(pa.uint64(), pa.int64())) == [{"1": 2}]
    assert shown("String", [b"\xffa", "é".encode()], pa.binary()) == ["\ufffda", "é"]
    assert shown("Decimal(18, 9)", [Decimal("0.000000001")], pa.decimal128(18, 9)) == ["0.000000001"]
    assert shown("Decimal(9, 2)", [Decimal(5)], pa.decimal128(9, 2)) == ["5.00"]
    assert shown("DateTime", [0], pa.uint32(), timezone="Europe/Berlin") == ["1970-01-01T01:00:00+01:00"]
    # Arrow's own time zones end in 2037.
    assert shown("DateTime('Europe/Berlin')", [2**32 - 1], pa.uint32()) == ["2106-02-07T07:28:15+01:00"]
    assert shown("DateTime('Europe/Berlin')", [4118076000], pa.uint32()) == ["2100-07-01T00:00:00+02:00"]
    assert shown("DateTime('America/New_York')", [None, 0], pa.uint32()) == [
        None,
        "1969-12-31T19:00:00-05:00",
    ]


def test_csv_fields() -> None:
    def fields(text: str, values: list[Any], kind: pa.DataType) -> list[str | None]:
        t = parse_type(text)
        return csv_values(to_storage(pa.array(values, kind), t), t, timezone="UTC")

    assert fields("Nullable(UInt64)", [1, None], pa.uint64()) == ["1", None]
    assert fields("Bool", [True, False], pa.bool_()) == ["true", "false"]
    assert fields("Float64", [1.0, float("nan"), 1e300], pa.float64()) == ["1.0", None, "1e+300"]
    assert fields("Array(String)", [['a"b', "é"]], pa.list_(pa.string())) == ['["a\\"b","é"]']


def test_openapi_forms() -> None:
    def schema(text: str, **how: Any) -> dict[str, Any]:
        return openapi_schema(parse_type(text), **how)

    assert schema("UInt8") == {"type": "integer", "minimum": 0, "maximum": 255}
    assert schema("Int64")["format"] == "int64"
    assert schema("UInt64", integers="string")["type"] == "string"
    assert schema("Nullable(String)") == {"type": ["string", "null"]}
    assert schema("Nullable(Enum8('a' = 1))") == {"type": ["string", "null"], "enum": ["a", None]}
    assert schema("Float64")["type"] == ["number", "null"]
    assert schema("DateTime64(3)") == {"type": "string", "format": "date-time"}
    assert schema("Array(Nullable(Date))")["items"] == {"type": ["string", "null"], "format": "date"}
    assert schema("Tuple(a UInt8)")["required"] == ["a"]


@pytest.mark.parametrize(
    "text", ["UInt8", "Nullable(String)", "Date", "DateTime('Asia/Tokyo')", "DateTime64(6)", "UUID"]
)
def test_polars_has_the_type_it_is_said_to_have(text: str) -> None:
    t = parse_type(text)
    table = pa.table([to_scalar_column(text)], schema=storage_schema([Column("c", t)]))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    assert frame.schema["c"] == polars_type(t)


def to_scalar_column(text: str) -> pa.Array:
    t = parse_type(text)
    scalar = to_scalar(t, example_value(t))
    return pa.array([scalar], scalar.type)


def test_polars_has_no_long_decimals() -> None:
    with pytest.raises(UnsupportedType, match="38 digits"):
        polars_type(parse_type("Decimal(76, 2)"))


def test_nested_and_odd_names_come_back_from_parquet(session: Session, tmp_path: Path) -> None:
    columns = [
        Column("it's `odd`", parse_type("Nested(a UInt8, b String)")),
        Column("n", parse_type("UInt8")),
    ]
    values = [[{"a": 1, "b": b"x"}], []]
    table = pa.table([values, [1, 2]], schema=storage_schema(columns))
    pq.write_table(table, tmp_path / "c.parquet")
    declared = render_literal(parse_type("String"), structure(columns))
    back = rows(session, f"SELECT * FROM file('{tmp_path / 'c.parquet'}', 'Parquet', {declared})")
    assert back == [[[{"a": 1, "b": "x"}], 1], [[], 2]]


# The table and its page ---------------------------------------------------------------------------------


def test_the_page_shows_every_type_of_the_table_and_every_refused_one() -> None:
    page = DOC.read_text()
    for name in [name for family in families() for name in family.names] + list(WAYS_OUT):
        shown = re.sub(r"\d+$", "", name) if name.startswith(("Int", "UInt")) and name[-1].isdigit() else name
        assert re.search(rf"\b{'Interval' if name.startswith('Interval') else shown}", page), (
            f"docs/types.md lacks {name}"
        )
    for way_out in WAYS_OUT.values():
        assert way_out.partition(" or ")[0].format(column="c", filled="Nullable(String)") in page, way_out


def test_the_public_names() -> None:
    assert set(endpoints.types.__all__) <= set(vars(endpoints.types))
