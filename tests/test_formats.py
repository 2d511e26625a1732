"""Rows as bytes: JSON in both shapes, CSV by RFC 4180, Arrow, Parquet."""

from __future__ import annotations

import csv
import io
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.formats import (
    PART_ROWS,
    ROW_GROUP_PARTS,
    arrow_parts,
    csv_rows,
    json_rows,
    ndjson_parts,
    parquet_parts,
)
from endpoints.rows import Rows
from endpoints.types import Column, parse_type, storage_schema, to_storage


def rows_of(timezone: str = "UTC", **columns: tuple[str, list[Any], pa.DataType]) -> Rows:
    described = tuple(Column(name, parse_type(text)) for name, (text, _, _) in columns.items())
    arrays = [
        to_storage(pa.array(values, kind), column.type)
        for column, (_, values, kind) in zip(described, columns.values(), strict=True)
    ]
    return Rows(described, pa.table(arrays, schema=storage_schema(described)), timezone, has_more=False)


USAGE = {
    "day": ("Date", [20454, 20455], pa.uint16()),
    "event": ("LowCardinality(String)", ["click", 'say "hi",\r\nthen é'], pa.string()),
    "events": ("UInt64", [3, 2**64 - 1], pa.uint64()),
    "amount": ("Nullable(Decimal(9, 2))", [None, 5], pa.decimal128(9, 2)),
    "tags": ("Array(String)", [["a", "b"], []], pa.list_(pa.string())),
}


def test_json_arrays() -> None:
    assert (
        json_rows(rows_of(**USAGE))
        == (
            '[["2026-01-01","click",3,null,["a","b"]],'
            '["2026-01-02","say \\"hi\\",\\r\\nthen é",18446744073709551615,"5.00",[]]]'
        ).encode()
    )


def test_json_objects_and_integers_as_strings() -> None:
    first, _ = orjson.loads(json_rows(rows_of(**USAGE), shape="objects", integers="string"))
    assert first == {"day": "2026-01-01", "event": "click", "events": "3", "amount": None, "tags": ["a", "b"]}
    assert list(first) == list(USAGE), "in the order of the columns"


def test_csv_is_rfc_4180() -> None:
    assert (
        csv_rows(rows_of(**USAGE))
        == (
            "day,event,events,amount,tags\r\n"
            '2026-01-01,click,3,,"[""a"",""b""]"\r\n'
            '2026-01-02,"say ""hi"",\r\nthen é",18446744073709551615,5.00,[]\r\n'
        ).encode()
    )


@pytest.mark.parametrize("shape", ["arrays", "objects"])
def test_no_rows(shape: Any) -> None:
    empty = rows_of(a=("UInt8", [], pa.uint8()), b=("DateTime('Europe/Berlin')", [], pa.uint32()))
    assert json_rows(empty, shape) == b"[]"
    assert csv_rows(empty) == b"a,b\r\n"


def test_times_are_in_the_servers_zone_where_the_type_has_none() -> None:
    rows = rows_of(
        "Asia/Kolkata", at=("DateTime", [0], pa.uint32()), utc=("DateTime('UTC')", [0], pa.uint32())
    )
    assert json_rows(rows) == b'[["1970-01-01T05:30:00+05:30","1970-01-01T00:00:00Z"]]'
    assert csv_rows(rows).splitlines()[1] == b"1970-01-01T05:30:00+05:30,1970-01-01T00:00:00Z"


def test_a_table_of_many_chunks() -> None:
    part = rows_of(n=("UInt8", [1, 2], pa.uint8()), at=("DateTime", [0, 1], pa.uint32()))
    whole = Rows(part.columns, pa.concat_tables([part.table, part.table.slice(1, 1)]), "UTC", has_more=True)
    assert [n for n, _ in orjson.loads(json_rows(whole))] == [1, 2, 2]
    assert csv_rows(whole).count(b"\r\n") == 4


def test_a_single_column_of_empty_fields_keeps_its_lines() -> None:
    rows = rows_of(s=("Nullable(String)", [None, "", "a"], pa.string()))
    assert list(csv.reader(io.StringIO(csv_rows(rows).decode(), newline=""))) == [["s"], [""], [""], ["a"]]


@given(
    st.lists(st.tuples(st.text(), st.none() | st.binary(max_size=8), st.integers(0, 2**64 - 1)), max_size=8)
)
def test_both_formats_say_the_same(cells: list[tuple[str, bytes | None, int]]) -> None:
    texts, raw, numbers = ([list(column) for column in zip(*cells, strict=True)]) if cells else ([], [], [])
    rows = rows_of(
        a=("String", [text.encode("utf-8", "replace") for text in texts], pa.binary()),
        b=("Nullable(String)", raw, pa.binary()),
        c=("UInt64", numbers, pa.uint64()),
    )
    from_json = orjson.loads(json_rows(rows))
    header, *from_csv = csv.reader(io.StringIO(csv_rows(rows).decode(), newline=""))
    assert header == ["a", "b", "c"]
    assert from_csv == [["" if v is None else str(v) for v in row] for row in from_json]


NESTED = {
    "texts": ("Array(LowCardinality(Nullable(String)))", [["a", None], []], pa.list_(pa.string())),
    "pair": (
        "Tuple(id UUID, at DateTime('Asia/Tokyo'))",
        [{"id": bytes(16), "at": 0}, {"id": b"\x01" * 16, "at": 3600}],
        pa.struct([("id", pa.binary(16)), ("at", pa.uint32())]),
    ),
    "map": ("Map(String, IPv4)", [[(b"k", 2**24)], []], pa.map_(pa.binary(), pa.uint32())),
    "wide": ("Int256", [(-5).to_bytes(32, "little", signed=True), bytes(32)], pa.binary(32)),
    "fixed": ("FixedString(3)", [b"ab\0", b"\xff\0\0"], pa.binary(3)),
    "text": ("Nullable(String)", [b"\xffx", None], pa.binary()),
    "amount": ("Decimal(9, 2)", [5, 7], pa.decimal128(9, 2)),
    "day": ("Date", [20454, 20455], pa.uint16()),
}


def arrow(rows: Rows) -> pa.Table:
    return pa.ipc.open_stream(b"".join(arrow_parts(rows))).read_all()


def test_arrow_and_parquet_hold_what_other_programs_know() -> None:
    rows = rows_of("Europe/Berlin", when=("DateTime", [0, 1], pa.uint32()), **NESTED)
    read = arrow(rows)
    assert pq.read_table(pa.BufferReader(b"".join(parquet_parts(rows)))).to_pylist() == read.to_pylist()
    assert [str(kind) for kind in read.schema.types] == [
        "timestamp[ms, tz=Europe/Berlin]",
        "list<element: string>",
        "struct<id: string not null, at: timestamp[ms, tz=Asia/Tokyo] not null>",
        "map<string, string>",
        "string",
        "string",
        "string",
        "decimal128(9, 2)",
        "date32[day]",
    ]
    first, second = read.drop_columns(["when", "pair"]).to_pylist()
    assert first == {
        "texts": ["a", None],
        "map": [("k", "1.0.0.0")],
        "wide": "-5",
        "fixed": "ab",
        "text": "\ufffdx",
        "amount": Decimal("5.00"),
        "day": date(2026, 1, 1),
    }
    assert (second["text"], second["map"], second["fixed"]) == (None, [], "\ufffd")
    assert [p["id"] for p in read["pair"].to_pylist()] == [str(UUID(int=0)), str(UUID(bytes=b"\x01" * 16))]
    assert read["pair"].to_pylist()[1]["at"].isoformat() == "1970-01-01T10:00:00+09:00"


@pytest.mark.parametrize("count", [0, 1, PART_ROWS, PART_ROWS * (ROW_GROUP_PARTS + 1) + 1])
def test_parts_make_a_whole(count: int) -> None:
    rows = rows_of(n=("UInt64", list(range(count)), pa.uint64()))
    whole = [[n] for n in range(count)]
    assert orjson.loads(json_rows(rows)) == whole
    assert [orjson.loads(line) for line in b"".join(ndjson_parts(rows, "arrays")).splitlines()] == whole
    assert csv_rows(rows).count(b"\r\n") == count + 1
    assert arrow(rows)["n"].to_pylist() == list(range(count))
    assert pq.read_table(pa.BufferReader(b"".join(parquet_parts(rows)))).num_rows == count
