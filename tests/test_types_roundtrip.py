"""A value looks the same live and from an asset: types and values by hypothesis, through real ClickHouse.

The JSON that each value must become is made here from the Python value, not by the code under test.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chdb.session import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.types import (
    ClickHouseType,
    Column,
    Value,
    check_storable,
    csv_values,
    json_values,
    openapi_schema,
    parse_type,
    parse_value,
    render_literal,
    render_parameter,
    show_value,
    storage_schema,
    structure,
    to_scalar,
    to_storage,
    to_storage_batch,
)

QUICK = settings(
    deadline=None,
    max_examples=70,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    session = Session()
    session.query("SET allow_suspicious_low_cardinality_types = 1, session_timezone = 'UTC'")
    yield session
    session.close()


def select(session: Session, sql: str, **parameters: str) -> pa.Array:
    """The only column of a query's result, as chDB's Arrow output has it."""
    batches = session.send_query(sql, "Arrow", params=parameters).record_batch()
    return pa.Table.from_batches(list(batches)).column(0).combine_chunks()


# Scalars: (value, JSON) ---------------------------------------------------------------------------------

Pairs = st.SearchStrategy[tuple[Any, Any]]
ODD_TEXT = [
    "",
    "\\",
    "\\N",
    "'",
    "a\tb",
    "\n",
    "\0",
    "\\'",
    "NULL",
    "[1]",
    "𝄞",
    "{x:String}",
    "a\rb",
    "\b\x7f\x01",
]
TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(ODD_TEXT)
ENUM8 = "Enum8('a' = 1, 'it\\'s' = -2, 'b\\\\c' = 3, '' = 4)"


def whole(least: int, greatest: int) -> Pairs:
    wide = greatest.bit_length() > 64
    numbers = st.integers(least, greatest) | st.sampled_from([least, greatest])
    return numbers.map(lambda n: (n, str(n) if wide else n))


def moments(zone: str, scale: int) -> Pairs:
    last = datetime(2262, 4, 11) if scale > 6 else datetime(2299, 12, 31, 9)
    step = 10 ** max(6 - scale, 0)

    def made(at: datetime) -> tuple[Value, Any]:
        value = at.replace(microsecond=at.microsecond // step * step, tzinfo=UTC)
        return value, iso(value, zone, scale)

    return st.datetimes(datetime(1920, 1, 1), last).map(made)


def seconds(zone: str) -> Pairs:
    instants = st.integers(0, 2**32 - 1).map(lambda n: datetime.fromtimestamp(n, UTC))
    return instants.map(lambda value: (value, iso(value, zone, 0)))


def iso(value: datetime, zone: str, scale: int) -> str:
    ahead = value.astimezone(ZoneInfo(zone)).utcoffset()
    assert ahead is not None
    minutes = int(ahead.total_seconds() / 60)  # offsets of local mean time have seconds, which ISO has not
    local = value + timedelta(minutes=minutes)
    fraction = f".{local.microsecond:06}000"[: scale + 1] if scale else ""
    sign, minutes = "-" if minutes < 0 else "+", abs(minutes)
    offset = "Z" if zone == "UTC" else f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    return f"{local:%Y-%m-%dT%H:%M:%S}{fraction}{offset}"


def decimals(precision: int, scale: int) -> Pairs:
    greatest = 10**precision - 1
    digits = st.integers(-greatest, greatest) | st.integers(-9, 9)
    return digits.map(lambda n: Decimal(f"{n}E-{scale}")).map(lambda value: (value, format(value, "f")))


def shortest32(value: float) -> float:
    """The least digits that still mean this Float32, found by trying."""
    for digits in range(1, 18):
        candidate = float(f"{value:.{digits}g}")
        if math.isfinite(candidate) and abs(candidate) < 3.4028235e38 and to32(candidate) == value:
            return candidate
    return value


def to32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def same(values: st.SearchStrategy[Any]) -> Pairs:
    return values.map(lambda x: (x, x))


def as_text(values: st.SearchStrategy[Any]) -> Pairs:
    return values.map(lambda x: (x, str(x)))


SCALARS: dict[str, Pairs] = {
    **{f"UInt{bits}": whole(0, 2**bits - 1) for bits in (8, 16, 32, 64, 128, 256)},
    **{f"Int{bits}": whole(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64, 128, 256)},
    "Float64": same(st.floats(allow_nan=False, allow_infinity=False)),
    "Float32": st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda x: (x, shortest32(x))),
    "Bool": same(st.booleans()),
    "String": same(TEXT),
    "FixedString(8)": same(st.text("ab\\'é", max_size=4)),
    "Date": as_text(st.dates(date(1970, 1, 1), date(2149, 6, 6))),
    "Date32": as_text(st.dates(date(1900, 1, 1), date(2299, 12, 31))),
    "DateTime": seconds("UTC"),
    **{f"DateTime('{zone}')": seconds(zone) for zone in ("Europe/Berlin", "Asia/Kolkata", "UTC")},
    **{
        f"DateTime64({scale}, '{zone}')": moments(zone, scale)
        for scale in (0, 1, 3, 6, 8, 9)
        for zone in ("Europe/Berlin", "America/St_Johns")
    },
    "DateTime64(3)": moments("UTC", 3),
    **{f"Decimal({p}, {s})": decimals(p, s) for p, s in ((9, 2), (9, 9), (18, 0), (38, 10), (76, 38))},
    ENUM8: same(st.sampled_from(["a", "it's", "b\\c", ""])),
    "Enum16('x' = -1000, 'y' = 1000)": same(st.sampled_from(["x", "y"])),
    "UUID": as_text(st.uuids()),
    "IPv4": as_text(st.ip_addresses(v=4)),
    "IPv6": as_text(st.integers(2**64, 2**128 - 1).map(IPv6Address)),
}


# Columns of any type: (SQL, JSON) -----------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A type, values of it as SQL, and the JSON that each must become."""

    text: str
    cells: st.SearchStrategy[tuple[str, Any]]
    key: bool = False


def scalar(text: str) -> Kind:
    t = parse_type(text)
    return Kind(
        text, SCALARS[text].map(lambda pair: (render_literal(t, pair[0]), pair[1])), key=text == "String"
    )


def nullable(kind: Kind) -> Kind:
    text = f"Nullable({kind.text})"
    null = st.just((f"CAST(NULL AS {text})", None))
    return Kind(text, null | kind.cells.map(lambda cell: (f"CAST({cell[0]} AS {text})", cell[1])))


def low_cardinality(kind: Kind) -> Kind:
    text = f"LowCardinality({kind.text})"
    return Kind(text, kind.cells.map(lambda cell: (f"CAST({cell[0]} AS {text})", cell[1])), key=kind.key)


def array(kind: Kind) -> Kind:
    text = f"Array({kind.text})"

    def cell(items: list[tuple[str, Any]]) -> tuple[str, Any]:
        return f"CAST([{', '.join(sql for sql, _ in items)}] AS {text})", [json for _, json in items]

    return Kind(text, st.lists(kind.cells, max_size=3).map(cell))


def unnamed(kinds: list[Kind]) -> Kind:
    text = f"Tuple({', '.join(kind.text for kind in kinds)})"

    def cell(items: tuple[tuple[str, Any], ...]) -> tuple[str, Any]:
        return f"CAST(tuple({', '.join(sql for sql, _ in items)}) AS {text})", [json for _, json in items]

    return Kind(text, st.tuples(*(kind.cells for kind in kinds)).map(cell))


def named(kinds: list[Kind]) -> Kind:
    names = ["a", "some name", "Array"][: len(kinds)]
    text = f"Tuple({', '.join(f'`{n}` {kind.text}' for n, kind in zip(names, kinds, strict=True))})"

    def cell(items: tuple[tuple[str, Any], ...]) -> tuple[str, Any]:
        values = {name: json for name, (_, json) in zip(names, items, strict=True)}
        return f"CAST(tuple({', '.join(sql for sql, _ in items)}) AS {text})", values

    return Kind(text, st.tuples(*(kind.cells for kind in kinds)).map(cell))


def mapping(kind: Kind) -> Kind:
    text = f"Map(String, {kind.text})"

    def cell(items: dict[str, tuple[str, Any]]) -> tuple[str, Any]:
        sql = ", ".join(f"{render_literal(parse_type('String'), k)}, {v}" for k, (v, _) in items.items())
        return f"CAST({f'map({sql})' if sql else 'map()'} AS {text})", {
            k: json for k, (_, json) in items.items()
        }

    return Kind(text, st.dictionaries(TEXT, kind.cells, max_size=3).map(cell))


LEAVES = st.sampled_from(sorted(SCALARS)).map(scalar)
SIMPLE = (
    LEAVES
    | LEAVES.map(nullable)
    | st.sampled_from(["String", "Date", "UInt64"]).map(scalar).map(low_cardinality)
)
KINDS = st.recursive(
    SIMPLE,
    lambda inner: (
        inner.map(array)
        | inner.map(mapping)
        | st.lists(inner, min_size=1, max_size=3).map(unnamed)
        | st.lists(inner, min_size=1, max_size=3).map(named)
    ),
    max_leaves=5,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[ClickHouseType, str, list[Any]]:
    """A type, SQL that gives a column of it, and the JSON of the column."""
    kind = draw(KINDS)
    cells = draw(st.lists(kind.cells, min_size=1, max_size=5))
    rows = ", ".join(f"tuple({i}, {sql})" for i, (sql, _) in enumerate(cells))
    sql = f"SELECT t.2 AS c FROM (SELECT arrayJoin([{rows}]) AS t) ORDER BY t.1"
    return parse_type(kind.text), sql, [json for _, json in cells]


def through_parquet(array: pa.Array, t: ClickHouseType, path: Path) -> None:
    batch = to_storage_batch(pa.record_batch([array], ["c"]), [Column("c", t)])
    pq.write_table(pa.Table.from_batches([batch]), path)


@QUICK
@given(table=tables())
def test_a_value_is_the_same_live_and_from_an_asset(
    session: Session, tmp_path: Path, table: tuple[ClickHouseType, str, list[Any]]
) -> None:
    t, sql, expected = table
    check_storable([Column("c", t)])
    live = to_storage(select(session, sql), t)
    assert json_values(live, t, timezone="UTC") == expected

    path = tmp_path / "c.parquet"
    through_parquet(live, t, path)
    stored = pq.read_table(path).column(0)
    assert json_values(stored, t, timezone="UTC") == expected, (
        "as pyarrow reads it, it is in storage form already"
    )
    assert to_storage(stored.combine_chunks(), t).equals(live)

    declared = render_literal(parse_type("String"), structure([Column("c", t)]))
    finished = select(session, f"SELECT c FROM file('{path}', 'Parquet', {declared})")
    assert json_values(to_storage(finished, t), t, timezone="UTC") == expected, "as ClickHouse reads it back"


@QUICK
@given(table=tables())
def test_polars_reads_the_same_from_an_asset(
    session: Session, table: tuple[ClickHouseType, str, list[Any]]
) -> None:
    t, sql, expected = table
    live = to_storage(select(session, sql), t)
    if "decimal256" in str(live.type):
        return  # Polars has none
    file = io.BytesIO()
    pq.write_table(pa.table([live], schema=storage_schema([Column("c", t)])), file)
    frame = pl.read_parquet(file.getvalue())
    assert (
        json_values(to_storage(frame.to_arrow().column(0).combine_chunks(), t), t, timezone="UTC") == expected
    )


@QUICK
@given(table=tables(), start=st.integers(0, 5), length=st.integers(0, 5))
def test_slices_and_storage_form_change_nothing(
    session: Session, table: tuple[ClickHouseType, str, list[Any]], start: int, length: int
) -> None:
    t, sql, expected = table
    raw = select(session, sql)
    piece = expected[start : start + length]
    assert json_values(to_storage(raw.slice(start, length), t), t, timezone="UTC") == piece
    stored = to_storage(raw, t)
    assert json_values(stored.slice(start, length), t, timezone="UTC") == piece
    assert to_storage(stored.slice(start, length), t).equals(stored.slice(start, length))


@QUICK
@given(table=tables())
def test_clickhouse_writes_parquet_that_reads_the_same(
    session: Session, tmp_path: Path, table: tuple[ClickHouseType, str, list[Any]]
) -> None:
    t, sql, expected = table
    path = tmp_path / "theirs.parquet"
    path.unlink(missing_ok=True)
    session.query(
        f"{sql} INTO OUTFILE '{path}' FORMAT Parquet SETTINGS output_format_parquet_string_as_string = 0"
    )
    theirs = pq.read_table(path).column(0).combine_chunks()
    assert json_values(to_storage(theirs, t), t, timezone="UTC") == expected


@QUICK
@given(table=tables())
def test_values_fit_their_openapi_schema_and_csv_their_json(
    session: Session, table: tuple[ClickHouseType, str, list[Any]]
) -> None:
    from jsonschema import Draft202012Validator

    t, sql, expected = table
    column = to_storage(select(session, sql), t)
    for integers in ("number", "string"):
        schema = openapi_schema(t, integers=integers)
        Draft202012Validator.check_schema(schema)
        for value in orjson.loads(orjson.dumps(json_values(column, t, timezone="UTC", integers=integers))):
            Draft202012Validator(schema).validate(value)
    for field, json in zip(csv_values(column, t, timezone="UTC"), expected, strict=True):
        match json:
            case None:
                assert field is None
            case str():
                assert field == json
            case _:
                assert field is not None
                assert orjson.loads(field) == json


# Variables ----------------------------------------------------------------------------------------------


@st.composite
def bound(draw: st.DrawFn) -> tuple[ClickHouseType, Value, Any]:
    """A type that a variable may have, a value of it, and its JSON."""
    text = draw(st.sampled_from(sorted(SCALARS)))
    values: Pairs = SCALARS[text]
    if draw(st.booleans()):
        text, values = f"Nullable({text})", values | st.just((None, None))
    if "String" in text and draw(st.booleans()):
        text = f"LowCardinality({text})"
    for _ in range(draw(st.integers(0, 2))):
        text = f"Array({text})"
        values = st.lists(values, max_size=3).map(
            lambda pairs: ([v for v, _ in pairs], [j for _, j in pairs])
        )
    value, json = draw(values)
    return parse_type(text), value, json


@QUICK
@given(made=bound())
def test_clickhouse_binds_the_very_value(session: Session, made: tuple[ClickHouseType, Value, Any]) -> None:
    t, value, json = made
    parameter = select(session, f"SELECT {{x:{t.text}}} AS c", x=render_parameter(t, value))
    assert json_values(to_storage(parameter, t), t, timezone="UTC") == [json]


@QUICK
@given(made=bound())
def test_a_literal_is_the_very_value(session: Session, made: tuple[ClickHouseType, Value, Any]) -> None:
    t, value, json = made
    sql = f"SELECT {render_literal(t, value)} AS c"
    assert json_values(to_storage(select(session, sql), t), t, timezone="UTC") == [json]
    types = select(session, f"SELECT toTypeName({render_literal(t, value)})").to_pylist()
    assert [parse_type(name) for name in types] == [t]


@QUICK
@given(made=bound())
def test_a_scalar_is_the_value_in_storage_form(made: tuple[ClickHouseType, Value, Any]) -> None:
    t, value, json = made
    scalar = to_scalar(t, value)
    assert json_values(pa.array([scalar], scalar.type), t, timezone="UTC") == [json]


@QUICK
@given(made=bound())
def test_what_json_shows_a_variable_takes(made: tuple[ClickHouseType, Value, Any]) -> None:
    t, value, json = made
    if set("\0\b\x01\x7f") & set(str(value)) or "\\x" in repr(value):
        return  # control characters, which callers may not send
    assert parse_value(t, json) == value
    assert parse_value(t, orjson.loads(orjson.dumps(show_value(t, value)))) == value
