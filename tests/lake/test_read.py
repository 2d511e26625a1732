"""Reading an asset: the same rows as a plain filter gives, whatever the files and row groups; bounded
memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.errors import Corrupt, MissingFile, Unservable
from endpoints.formats import csv_rows, json_rows
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import FileEntry, Manifest, PartitionEntry
from endpoints.lake.read import AssetReader
from endpoints.lake.rows import RowGroups
from endpoints.lake.store import Store
from endpoints.packing import pack, unpack
from endpoints.query.bind import Bound, bind
from endpoints.query.plan import Plan, make_plan
from endpoints.types import Column, parse_type, storage_schema
from tests.parity.harness import version_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Row = tuple[Any, ...]


class Asset:
    """Rows in Parquet files of a version's folder, as if a run had published them."""

    def __init__(
        self,
        folder: Path,
        sql: str,
        types: Sequence[str],
        rows: Sequence[Row],
        group: int = 4,
        files: int = 1,
    ) -> None:
        self.version = version_of(sql)
        plan = make_plan(self.version)
        assert isinstance(plan, Plan), plan
        self.plan = plan
        width = len(types) - len(plan.hidden)
        names = [*(f"c{number}" for number in range(width)), *plan.hidden]
        self.columns = tuple(Column(name, parse_type(text)) for name, text in zip(names, types, strict=True))
        self.folder = folder / "endpoints" / "parity" / f"v{self.version.number}"
        self.folder.mkdir(parents=True)
        per_file = -(-len(rows) // files) or 1
        parts = [rows[start : start + per_file] for start in range(0, len(rows), per_file)] or [[]]
        entries = tuple(self._write(f"{number}.parquet", part, group) for number, part in enumerate(parts))
        entry = PartitionEntry(entries, self.columns, NOW, "f", "r", "a", len(rows), 0)
        self.manifest = Manifest(
            1, "parity", self.version.number, "a", "r", NOW, "published", "f", partitions={"all": entry}
        )
        self.reader = AssetReader(FileCache(Store(f"file://{folder}"), folder / "cache", 2**20))

    def _write(self, name: str, rows: Sequence[Row], group: int) -> FileEntry:
        schema = storage_schema(self.columns)
        arrays = [pa.array([row[at] for row in rows], field.type) for at, field in enumerate(schema)]
        path = self.folder / name
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, row_group_size=group)
        body = path.read_bytes()
        return FileEntry(name, len(rows), len(body), f"sha256:{hashlib.sha256(body).hexdigest()}")

    def bound(self, **values: object) -> Bound:
        return bind(self.version, values, now=NOW)

    def read(
        self, limit: int | None = None, offset: int = 0, max_rows: int = 1000, **values: object
    ) -> tuple[list[Row], bool]:
        rows = self.reader.read(
            self.manifest, self.plan, self.bound(**values), limit=limit, offset=offset, max_rows=max_rows
        )
        return [tuple(row.values()) for row in rows.table.to_pylist()], rows.has_more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


TEXTS = st.sampled_from([b"", b"a", b"A", b"ab", b"ab\0", b"\xff", b"z" * 5000])
KEYED = st.lists(st.tuples(st.integers(-5, 5), st.one_of(st.none(), TEXTS), st.integers(-2, 2)), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=KEYED,
    key=st.sampled_from(["", "a", "A", "ab", "z" * 5000]),
    number=st.integers(-3, 3),
    group=st.integers(1, 9),
    files=st.integers(1, 3),
    limit=st.one_of(st.none(), st.integers(0, 9)),
    offset=st.integers(0, 9),
)
def test_seeking_is_filtering(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    key: str,
    number: int,
    group: int,
    files: int,
    limit: int | None,
    offset: int,
) -> None:
    # Sorted as ClickHouse sorts: NULL behind every value.
    rows = sorted(rows, key=lambda row: (row[1] is None, row[1] or b"", row[2]))
    sql = "SELECT c0 FROM t WHERE k = {k:String} AND n = {n:Int8}"
    types = ["Int64", "Nullable(String)", "Int32"]
    asset = Asset(tmp_path_factory.mktemp("asset"), sql, types, rows, group, files)
    wanted = [(row[0],) for row in rows if row[1] == key.encode() and row[2] == number]
    size = 5 if limit is None else min(limit, 5)
    found, has_more = asset.read(limit, offset, max_rows=5, k=key, n=number)
    assert found == wanted[offset : offset + size]
    assert has_more == (len(wanted) > offset + size)


@pytest.mark.parametrize(
    ("type_text", "values", "given_value", "wanted"),
    [
        ("UInt64", [0, 2**53, 2**53 + 1, 2**64 - 1], 2**64 - 1, [3]),
        ("DateTime64(6, 'UTC')", [0, 1, 2], "1970-01-01T00:00:00.000001Z", [1]),
        ("Date", [0, 20_000, 20_001], "2024-10-04", [1]),
        ("Bool", [False, True], True, [1]),
        ("UUID", [bytes(15) + b"\1", b"\1" + bytes(15)], "00000000-0000-0000-0000-000000000001", [0]),
        ("UInt256", [bytes(32), b"\1" + bytes(31)], "1", [1]),
        ("Enum8('b' = 1, 'a' = 2)", ["b", "a"], "a", [1]),
    ],
)
def test_types_that_name_one_value(
    folder: Path, type_text: str, values: list[Any], given_value: object, wanted: list[int]
) -> None:
    sql = f"SELECT c0 FROM t WHERE k = {{k:{type_text}}}"
    asset = Asset(folder, sql, ["Int64", type_text], list(enumerate(values)), group=1)
    assert asset.read(k=given_value)[0] == [(number,) for number in wanted]


WORDS = st.sampled_from([b"a", b"b", b"ba", b"c", b"\xc3\xa9", b"z"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 300), WORDS, WORDS), max_size=60),
    group=st.integers(1, 30),
    limit=st.one_of(st.none(), st.integers(1, 9)),
)
def test_two_texts_are_sought_in_dictionaries(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], group: int, limit: int | None
) -> None:
    rows = sorted(rows * 40, key=lambda row: (*row[1:], row[0]))  # so many that they are dictionary-coded
    sql = "SELECT c0 FROM t WHERE a = {a:String} AND b = {b:String}"
    asset = Asset(tmp_path_factory.mktemp("asset"), sql, ["UInt64", "String", "String"], rows, group * 40)
    for first, second in product(["a", "b", "ba", "c", "é", "no"], repeat=2):
        found = [(row[0],) for row in rows if row[1:] == (first.encode(), second.encode())]
        size = len(found) if limit is None else limit
        assert asset.read(limit, max_rows=3000, a=first, b=second) == (found[:size], len(found) > size)
        given = (asset.manifest, asset.plan, asset.bound(a=first, b=second))
        page = asset.reader.read(*given, limit=limit, offset=0, max_rows=3000)
        for write in (json_rows, csv_rows):
            assert write(page) == write(replace(page, packed=page.table))


def test_a_number_that_the_column_cannot_hold_is_in_no_row(folder: Path) -> None:
    asset = Asset(folder, "SELECT c0 FROM t WHERE k = {k:UInt64}", ["Int64", "Int8"], [(1, 44)])
    assert asset.read(k=44)[0] == [(1,)]
    assert asset.read(k=300)[0] == []


def test_null_equals_nothing(folder: Path) -> None:
    asset = Asset(
        folder,
        "SELECT c0 FROM t WHERE k = {k:Nullable(Int8)}",
        ["Int64", "Nullable(Int8)"],
        [(1, 0), (2, None)],
    )
    assert asset.read(k=None)[0] == []


def test_pages_without_a_filter_decode_only_what_they_show(folder: Path) -> None:
    asset = Asset(folder, "SELECT c0 FROM t", ["Int64"], [(number,) for number in range(100)], group=10)
    assert asset.read(limit=3, offset=50) == ([(50,), (51,), (52,)], True)
    assert asset.reader._groups.decoded == 1


@pytest.mark.parametrize(
    ("operator", "edge", "groups"),
    [(">=", 70, 3), (">", 69, 3), ("<", 20, 2), ("<=", 20, 3), ("<", 0, 0), (">", 99, 0), (">=", 99, 1)],
)
def test_conditions_decode_only_row_groups_that_can_pass(
    folder: Path, operator: str, edge: int, groups: int
) -> None:
    """Also of a number of another width; a row group of NULLs alone has no bounds and is looked at."""
    rows = [(number, number) for number in range(100)]
    sql = f"SELECT c0 FROM t WHERE x {operator} {{x:Int64}}"
    asset = Asset(folder, sql, ["Int64", "Nullable(UInt8)"], rows, group=10)
    compare = {">=": edge.__le__, ">": edge.__lt__, "<": edge.__gt__, "<=": edge.__ge__}[operator]
    assert asset.read(x=edge)[0] == [(number,) for number in range(100) if compare(number)]
    assert asset.reader._groups.decoded == groups


VALUES = st.one_of(st.none(), st.integers(0, 3))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), VALUES), min_size=8, max_size=40),
    low=st.integers(-1, 2),
    high=st.integers(1, 4),
    group=st.integers(1, 4),
)
def test_skipped_row_groups_have_no_row_of_the_answer(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], low: int, high: int, group: int
) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    sql = "SELECT x AS c0 FROM t WHERE k = {k:UInt8} AND x >= {a:Int64} AND x < {b:Int64}"
    types = ["Nullable(Int64)", "UInt8", "Nullable(Int64)"]
    asset = Asset(tmp_path_factory.mktemp("asset"), sql, types, [(x, k, x) for k, x in rows], group)
    wanted = [(x,) for k, x in rows if k == 1 and x is not None and low <= x < high]
    assert asset.read(k=1, a=low, b=high)[0] == wanted


def test_nothing_is_cut_silently(folder: Path) -> None:
    asset = Asset(folder, "SELECT c0 FROM t", ["Int64"], [(number,) for number in range(10)])
    assert asset.read(max_rows=10) == ([(number,) for number in range(10)], False)
    assert asset.read(max_rows=9)[1]
    assert asset.read(limit=0) == ([], True)


def test_decoded_rows_stay_within_their_budget(folder: Path) -> None:
    asset = Asset(
        folder, "SELECT c0 FROM t", ["Int64"], [(number << 40,) for number in range(1000)], group=100
    )
    asset.reader._groups = groups = RowGroups(budget=2000)
    assert len(asset.read()[0]) == 1000
    assert groups.decoded == 2
    assert 2 * 800 <= groups.held_bytes <= 2000


def test_text_is_held_as_dictionaries(folder: Path) -> None:
    """Ten names a thousand times take the memory of a thousand numbers; what is read is plain text."""
    rows = [(b"name %d" % (number % 10) * 10, number // 20) for number in range(1000)]
    asset = Asset(folder, "SELECT c0 FROM t WHERE k = {k:Int64}", ["String", "Int64"], rows, group=500)
    assert asset.read(k=3)[0] == [row[:1] for row in rows if row[1] == 3]
    assert asset.read(k=49)[0] == [row[:1] for row in rows if row[1] == 49]
    assert asset.reader.held_bytes < 1000 * (8 + 8) + 10_000


SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.date32(), pa.timestamp("s", "UTC"), pa.float64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


@pytest.mark.parametrize("type_", [*SIGNED, *UNSIGNED, pa.binary()], ids=str)
@given(st.data())
def test_rows_in_memory_are_narrow_and_come_back_as_they_were(
    type_: pa.DataType, data: st.DataObject
) -> None:
    bits = 50 if type_ in (pa.binary(), pa.float64()) else type_.bit_width - (type_ not in UNSIGNED)
    most = 2 ** data.draw(st.integers(0, bits)) - 1
    numbers = st.integers(0 if type_ in UNSIGNED else -most, most)
    maybe = st.one_of(st.none(), numbers)
    values = data.draw(st.one_of(st.lists(numbers, max_size=40), st.lists(maybe, max_size=40)))
    if type_ == pa.binary():
        array = pa.array([None if v is None else b"%d" % v for v in values], type_).dictionary_encode()
    elif type_ == pa.float64():
        array = pa.array([None if v is None else float(v) for v in values], type_)
    else:
        array = pa.array(values, type_ if pa.types.is_integer(type_) else f"int{type_.bit_width}").view(type_)
    table, schema = pa.table({"c": array}), pa.schema([("c", type_)])
    packed = pack(table)
    assert packed.nbytes <= table.nbytes
    begin, count = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))
    plain = unpack(packed.slice(begin, count), schema)
    plain.validate(full=True)
    assert plain.equals(unpack(table.slice(begin, count), schema))


def test_small_numbers_take_little_memory(folder: Path) -> None:
    rows = [(number % 200, date(2026, 1, 1 + number % 28), number // 100) for number in range(10_000)]
    sql = "SELECT c0, c1 FROM t WHERE k = {k:Int64}"
    asset = Asset(folder, sql, ["UInt64", "Date", "Int64"], rows, group=5000)
    assert asset.read(k=7)[0] == [row[:2] for row in rows if row[2] == 7]
    assert asset.read(k=70)[0] == [row[:2] for row in rows if row[2] == 70]
    assert asset.reader.held_bytes < 10_000 * (1 + 1 + 2) + 10_000


def test_a_read_looks_at_the_row_groups_of_its_key_only(folder: Path) -> None:
    rows = [(number, number // 7) for number in range(1000)]
    asset = Asset(folder, "SELECT c0 FROM t WHERE k = {k:Int64}", ["Int64", "Int64"], rows, group=10, files=3)
    assert asset.read(k=100)[0] == [(number,) for number in range(700, 707)]
    assert asset.reader._groups.decoded == 1


def test_a_missing_file_says_so(folder: Path) -> None:
    asset = Asset(folder, "SELECT c0 FROM t WHERE k = {k:Int8}", ["Int64", "Int8"], [(1, 1)])
    next(asset.folder.iterdir()).unlink()
    with pytest.raises(MissingFile):
        asset.read(k=1)


def test_a_damaged_file_is_corrupt(folder: Path) -> None:
    asset = Asset(folder, "SELECT c0 FROM t WHERE k = {k:Int8}", ["Int64", "Int8"], [(1, 1)])
    path = next(asset.folder.iterdir())
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with pytest.raises(Corrupt):
        asset.read(k=1)


def test_rows_of_another_plan_are_not_read(folder: Path) -> None:
    asset = Asset(folder, "SELECT c0 FROM t WHERE k = {k:Int8}", ["Int64", "Int8"], [(1, 1)])
    other = make_plan(version_of("SELECT c0 FROM t WHERE a = {a:Int8} AND b = {b:Int8} AND c = {c:Int8}"))
    assert isinstance(other, Plan)
    asset.plan = replace(other, key=asset.plan.key)
    with pytest.raises(Corrupt, match="another plan"):
        asset.read(k=1)


MERGED = "SELECT g, count() AS c FROM t WHERE x > {x:Int64} GROUP BY g"
MERGED_TYPES = ["String", "Int64", "UInt64"]


def test_parts_are_merged_where_they_are_read(folder: Path) -> None:
    asset = Asset(folder, MERGED, MERGED_TYPES, [(b"a", 1, 10), (b"a", 2, 20), (b"b", 2, 1), (b"c", 1, 7)])
    try:
        assert asset.read(x=0) == ([(b"a", 30), (b"b", 1), (b"c", 7)], False)
        assert asset.read(x=1, limit=1) == ([(b"a", 20)], True)
        assert asset.read(x=2) == ([], False)
    finally:
        asset.reader.close()


def test_more_than_can_be_finished_runs_live(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endpoints.lake.read.FINISH_BYTES", 10)
    asset = Asset(folder, MERGED, MERGED_TYPES, [(b"a", 1, 10), (b"b", 2, 20)])
    with pytest.raises(Unservable):
        asset.read(x=0)


def test_a_finish_that_fails_runs_live(folder: Path) -> None:
    asset = Asset(folder, MERGED, MERGED_TYPES, [(b"a", 1, 10)])
    assert asset.plan.finish is not None
    asset.plan = replace(asset.plan, finish=replace(asset.plan.finish, sql="SELECT throwIf(1) FROM __asset"))
    try:
        with pytest.raises(Unservable):
            asset.read(x=0)
    finally:
        asset.reader.close()


def test_what_is_in_memory_is_read_at_once(tmp_path: Path) -> None:
    rows = [(number, b"k%04d" % (number // 3)) for number in range(3000)]
    sql = "SELECT number FROM events WHERE name = {name:String}"
    asset = Asset(tmp_path, sql, ["UInt64", "String"], rows, group=500)
    for name in ("k0005", "k0990", "none"):
        given = (asset.manifest, asset.plan, asset.bound(name=name))
        read = asset.reader.read(*given, limit=10, offset=1, max_rows=10)
        at_once = asset.reader.read_at_once(*given, limit=10, offset=1)
        assert at_once is not None
        assert (at_once.table, at_once.has_more) == (read.table, read.has_more)
    assert (
        asset.reader.read_at_once(asset.manifest, asset.plan, asset.bound(name="k0500"), limit=1, offset=0)
        is None
    )


def test_many_rows_are_not_read_at_once(tmp_path: Path) -> None:
    rows = [(number, b"same") for number in range(3000)]
    sql = "SELECT number FROM events WHERE name = {name:String}"
    asset = Asset(tmp_path, sql, ["UInt64", "String"], rows, group=3000)
    given = (asset.manifest, asset.plan, asset.bound(name="same"))
    asset.reader.read(*given, limit=2000, offset=0, max_rows=2000)
    assert asset.reader.read_at_once(*given, limit=2000, offset=0) is None
