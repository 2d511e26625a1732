"""Contracts: every check against a naive reading of the same rows, and what a breach says."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandera.config import ValidationDepth, config_context

from endpoints.contract import Audit
from endpoints.contract_schema import readable
from endpoints.definition import ColumnContract, Contract
from endpoints.errors import ContractBreach, Failure
from endpoints.lake.manifest import CheckResult
from endpoints.types import Column, parse_type, storage_schema


def columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(name, parse_type(text)) for name, text in types.items())


def batch(of: Sequence[Column], **values: Sequence[Any]) -> pa.RecordBatch:
    schema = storage_schema(of)
    return pa.record_batch([pa.array(values[c.name], schema.field(c.name).type) for c in of], schema=schema)


def audit(
    contract: Contract, of: Sequence[Column], *batches: pa.RecordBatch, within: dict[str, str] | None = None
) -> tuple[CheckResult, ...]:
    with Audit(contract, of, unique_within=within or {}) as running:
        for rows in batches:
            running.add(rows)
        return running.finish()


def breach(
    contract: Contract, of: Sequence[Column], *batches: pa.RecordBatch, within: dict[str, str] | None = None
) -> dict[str, Failure]:
    with pytest.raises(ContractBreach) as caught:
        audit(contract, of, *batches, within=within)
    return {f"{failure.column or ''}.{failure.check}": failure for failure in caught.value.failures}


def one(type_text: str, values: Sequence[Any], **rules: Any) -> dict[str, int]:
    """The failing checks of a single column, with their counts; empty where all hold."""
    of = columns(x=type_text)
    try:
        audit(Contract({"x": ColumnContract(**rules)}), of, batch(of, x=values))
    except ContractBreach as caught:
        return {failure.check: failure.count for failure in caught.failures}
    return {}


def test_a_good_asset_passes_with_every_check_named() -> None:
    of = columns(day="Date", events="UInt64")
    contract = Contract(
        {"day": ColumnContract(type="Date", unique=True), "events": ColumnContract(type="UInt64", ge=1)},
        unique=("day", "events"),
        rows_min=1,
    )
    results = audit(contract, of, batch(of, day=[date(2026, 1, 1), date(2026, 1, 2)], events=[1, 2]))
    assert [result.name for result in results] == [
        "day.type",
        "day.unique",
        "events.type",
        "events.ge",
        "unique",
        "rows",
    ]
    assert all(result.passed for result in results)


def test_a_breach_names_column_check_count_and_examples() -> None:
    of = columns(event="String", events="UInt64")
    contract = Contract({"events": ColumnContract(ge=1), "event": ColumnContract(pattern="^[a-z]+$")})
    first = batch(of, event=[b"click", b"Click!", b"view"], events=[3, 0, 0])
    second = batch(of, event=[b"\xff", b"view"], events=[0, 1])
    found = breach(contract, of, first, second)
    assert found["events.ge"].count == 3
    assert found["events.ge"].examples == ("0",)
    assert found["event.pattern"].count == 2
    assert found["event.pattern"].examples == ("Click!", "\N{REPLACEMENT CHARACTER}")
    assert "Click!" in found["event.pattern"].detail


def test_examples_are_at_most_five_and_short() -> None:
    of = columns(x="String")
    rows = batch(of, x=[bytes([65 + n]) * 1000 for n in range(20)])
    found = breach(Contract({"x": ColumnContract(max_length=10)}), of, rows, rows)
    assert found["x.max_length"].count == 40
    assert len(found["x.max_length"].examples) == 5
    assert all(len(example) <= 80 for example in found["x.max_length"].examples)


@pytest.mark.parametrize(
    ("contract", "check"),
    [
        (Contract({"gone": ColumnContract()}), "gone.column"),
        (Contract(unique=("gone",)), "gone.column"),
        (Contract({"__d0": ColumnContract()}), "__d0.column"),
        (Contract({"x": ColumnContract(type="UInt64")}), "x.type"),
        (Contract({"x": ColumnContract(type="LowCardinality(UInt32)")}), "x.type"),
        (Contract({"x": ColumnContract(pattern="a")}), "x.pattern"),
        (Contract({"x": ColumnContract(ge="many")}), "x.ge"),
        (Contract({"day": ColumnContract(ge="2026-02-30")}), "day.ge"),
        (Contract({"list": ColumnContract(isin=("a",))}), "list.isin"),
    ],
)
def test_what_the_columns_alone_show_is_found_before_any_row(contract: Contract, check: str) -> None:
    of = columns(x="UInt32", day="Date", list="Array(String)", __d0="String")
    with pytest.raises(ContractBreach) as caught:
        Audit(contract, of)
    assert [f"{f.column}.{f.check}" for f in caught.value.failures] == [check]


def test_types_are_compared_as_types() -> None:
    assert one("Decimal(9, 2)", [Decimal("1.00")], type="Decimal(9,2)") == {}


@pytest.mark.parametrize("depth", ["SCHEMA_ONLY", "DATA_ONLY"])
def test_pandera_settings_from_elsewhere_cannot_skip_the_values(depth: str) -> None:
    with config_context(validation_enabled=False, validation_depth=ValidationDepth[depth]):
        assert one("UInt8", [0, 1], ge=1) == {"ge": 1}


# -- single values: each type in the form that people write contracts about ---------------------------------

U = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("type_text", "values", "rules", "failing"),
    [
        ("UInt64", [2**64 - 1, 2**53, 2**53 + 1], {"gt": 2**53}, {"gt": 1}),
        ("UInt64", [0, 5], {"ge": -1}, {}),
        ("Int64", [-(2**63), 0], {"le": 0.5, "gt": -1.5}, {"gt": 1}),
        ("Int8", [1, 2, None], {"isin": (1, 300)}, {"isin": 1}),
        ("Float64", [0.1, float("nan"), float("inf")], {"ge": 0, "le": 1}, {"ge": 1, "le": 2}),
        ("Float32", [0.1, 0.2], {"le": 0.1, "isin": (0.1, 0.2)}, {"le": 1}),
        ("Float64", [1.0, float("nan")], {"nullable": False}, {"nullable": 1}),
        ("Nullable(UInt8)", [1, None], {"nullable": False}, {"nullable": 1}),
        ("Nullable(UInt8)", [1, None], {"nullable": True, "ge": 1}, {}),
        ("Nullable(UInt8)", [0, None], {"ge": 1}, {"ge": 1}),
        ("Decimal(9, 2)", [Decimal("1.23"), Decimal("1.22")], {"gt": 1.225}, {"gt": 1}),
        ("Decimal(9, 2)", [Decimal("1.23")], {"isin": (Decimal("1.230"), 7)}, {}),
        ("Decimal(38, 10)", [Decimal("1234567890123456789012345678.1234567890")], {"lt": "2e27"}, {}),
        ("Decimal(76, 2)", [Decimal(10**60), Decimal("0.01")], {"gt": 0.01}, {"gt": 1}),
        ("Bool", [True, False], {"isin": (True,)}, {"isin": 1}),
        ("Date", [date(2026, 1, 1), date(2025, 12, 31)], {"ge": "2026-01-01"}, {"ge": 1}),
        ("Date32", [date(1900, 1, 1)], {"lt": date(1900, 1, 2)}, {}),
        ("DateTime", [datetime(2026, 1, 1, tzinfo=UTC)], {"lt": datetime(2026, 1, 1, tzinfo=UTC)}, {"lt": 1}),
        ("DateTime64(6)", [datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)], {"gt": "2026-01-01T00:00:00Z"}, {}),
        ("String", ["é".encode() * 3, b""], {"min_length": 1, "max_length": 3}, {"min_length": 1}),
        ("String", [b"cust_1", b"Xcust_1"], {"pattern": "^cust_"}, {"pattern": 1}),
        ("String", [b"ab", b"ac"], {"pattern": "a(?!c)"}, {"pattern": 1}),
        ("String", [b"b", b"a"], {"ge": "b", "isin": ("a", "b")}, {"ge": 1}),
        ("FixedString(4)", [b"ab\0\0", b"abcd"], {"max_length": 2}, {"max_length": 1}),
        ("LowCardinality(Nullable(String))", [b"a", None], {"isin": ("b",)}, {"isin": 1}),
        ("Enum8('a' = 1, 'b' = 2)", ["a", "b"], {"isin": ("a",)}, {"isin": 1}),
        ("UUID", [U.bytes, bytes(16)], {"isin": (str(U),)}, {"isin": 1}),
        ("IPv4", [0x7F000001, 0], {"isin": ("127.0.0.1",)}, {"isin": 1}),
        ("Int256", [(-5).to_bytes(32, "little", signed=True)], {"ge": -5, "lt": -5}, {"lt": 1}),
        ("UInt128", [(2**127).to_bytes(16, "little")], {"isin": (2**127,), "gt": 2**127}, {"gt": 1}),
    ],
)
def test_values(type_text: str, values: list[Any], rules: dict[str, Any], failing: dict[str, int]) -> None:
    assert one(type_text, values, **rules) == failing


NAIVE: dict[str, Callable[[Any, Any], bool]] = {
    "ge": lambda value, bound: value >= bound,
    "gt": lambda value, bound: value > bound,
    "le": lambda value, bound: value <= bound,
    "lt": lambda value, bound: value < bound,
}
NUMBERS = {
    "Int64": st.integers(-(2**63), 2**63 - 1),
    "UInt64": st.integers(0, 2**64 - 1),
    "Int8": st.integers(-128, 127),
    "Decimal(18, 4)": st.decimals(-1000, 1000, places=4),
}
BOUNDS = st.one_of(st.integers(-(2**70), 2**70), st.decimals(-2000, 2000, places=6), st.integers(-3, 3))


@given(data=st.data(), type_text=st.sampled_from(sorted(NUMBERS)), check=st.sampled_from(sorted(NAIVE)))
def test_bounds_equal_pythons_own_comparison(data: st.DataObject, type_text: str, check: str) -> None:
    values = data.draw(st.lists(st.one_of(st.none(), NUMBERS[type_text]), min_size=1, max_size=20))
    bound = data.draw(st.one_of(BOUNDS, NUMBERS[type_text]))
    wrong = sum(value is not None and not NAIVE[check](value, bound) for value in values)
    found = one(f"Nullable({type_text})", values, **{check: bound})
    assert found == ({check: wrong} if wrong else {})


@given(texts=st.lists(st.text(max_size=8), max_size=20), length=st.integers(0, 8))
def test_lengths_are_in_characters(texts: list[str], length: int) -> None:
    found = one("String", [text.encode() for text in texts], min_length=length, max_length=length)
    expected = {
        "min_length": sum(len(text) < length for text in texts),
        "max_length": sum(len(text) > length for text in texts),
    }
    assert found == {check: count for check, count in expected.items() if count}


@pytest.mark.parametrize(
    ("type_text", "value", "seen"),
    [
        ("String", b"a\xffb", "a\N{REPLACEMENT CHARACTER}b"),
        ("UUID", U.bytes, str(U)),
        ("IPv6", bytes(15) + b"\1", "::1"),
        ("Array(UInt64)", [1, 2], '["1","2"]'),
        ("Int128", bytes(16), "0"),
    ],
)
def test_examples_show_what_callers_see(type_text: str, value: Any, seen: str) -> None:
    (column,) = columns(x=type_text)
    assert readable(batch([column], x=[value]).column(0), column.type).to_list() == [seen]


def test_times_without_a_zone_are_the_servers() -> None:
    of = columns(x="DateTime")
    rows = batch(of, x=[datetime(2026, 1, 1, 11, 30, tzinfo=UTC)])
    contract = Contract({"x": ColumnContract(ge="2026-01-01 12:00:00")})
    with Audit(contract, of, timezone="Europe/Berlin") as running:
        running.add(rows)
        assert running.finish()
    assert "x.ge" in breach(contract, of, rows)


# -- the whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "failing"), [(0, True), (1, False), (3, False), (4, True)])
def test_rows_are_counted_over_all_batches(rows: int, failing: bool) -> None:
    of = columns(x="UInt8")
    batches = [batch(of, x=[1])] * rows
    contract = Contract(rows_min=1, rows_max=3)
    if failing:
        assert breach(contract, of, *batches)[".rows"].count == rows
    else:
        assert audit(contract, of, *batches)


ROW = st.tuples(st.sampled_from(["acme", "", "umbrella"]), st.integers(0, 3), st.sampled_from(["a", "b"]))


@given(
    batches=st.lists(st.lists(ROW, max_size=15), max_size=4),
    key=st.sampled_from([("day",), ("event",), ("day", "event")]),
    within=st.booleans(),
)
def test_unique_is_within_the_dimensions(
    batches: list[list[tuple[str, int, str]]], key: tuple[str, ...], within: bool
) -> None:
    of = columns(day="UInt8", event="String", __d0="String")
    if within:  # rows of one set of values lie together, in any order
        together = sorted((r for b in batches for r in b), key=lambda row: row[0].encode())
        ends = [*itertools.accumulate(len(b) for b in batches)]
        batches = [together[end - len(b) : end] for end, b in zip(ends, batches, strict=True)]
    rows = [
        batch(of, __d0=[r[0].encode() for r in b], day=[r[1] for r in b], event=[r[2].encode() for r in b])
        for b in batches
    ]
    keys = [
        (r[0] if within else "", *(({"day": r[1], "event": r[2]})[name] for name in key))
        for b in batches
        for r in b
    ]
    surplus = len(keys) - len(set(keys))
    dimensions = {"__d0": "customer_id"} if within else {}
    if not surplus:
        assert audit(Contract(unique=key), of, *rows, within=dimensions)
        return
    column = key[0] if len(key) == 1 else ""
    failure = breach(Contract(unique=key), of, *rows, within=dimensions)[f"{column}.unique"]
    assert failure.count == surplus
    assert all(("customer_id=" in example) == within for example in failure.examples)


def test_bytes_that_are_not_text_are_different_keys() -> None:
    of = columns(x="String", y="Decimal(60, 1)", z="UUID")
    rows = batch(of, x=[b"\xff", b"\xfe"], y=[Decimal(1), Decimal(1)], z=[U.bytes, U.bytes])
    assert audit(Contract(unique=("x", "y", "z")), of, rows)
    failure = breach(Contract(unique=("y", "z")), of, rows)[".unique"]
    assert failure.examples == (f"y=1.0, z={U}",)


def test_large_batches_are_checked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endpoints.contract.BATCH_ROWS", 7)
    of = columns(x="UInt32")
    found = breach(Contract({"x": ColumnContract(lt=90, unique=True)}), of, batch(of, x=[*range(100), 5]))
    assert (found["x.lt"].count, found["x.unique"].count) == (10, 1)
