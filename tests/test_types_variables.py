"""What callers may send for a variable of each type, and what they may not."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.types import (
    example_value,
    is_variable_type,
    parse_type,
    parse_value,
    render_literal,
    render_parameter,
    show_value,
    storage_type,
    to_scalar,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

GOOD: list[tuple[str, object, object]] = [
    ("UInt8", "255", 255),
    ("UInt8", 0, 0),
    ("UInt8", "007", 7),
    ("Int8", "-128", -128),
    ("Int64", "-9223372036854775808", -(2**63)),
    ("UInt64", 2**64 - 1, 2**64 - 1),
    ("UInt256", str(2**256 - 1), 2**256 - 1),
    ("Float64", "1e3", 1000.0),
    ("Float64", ".5", 0.5),
    ("Float64", "-0", -0.0),
    ("Float64", 3, 3.0),
    ("Float32", "0.1", 0.10000000149011612),
    ("Decimal(9, 2)", "12.5", Decimal("12.50")),
    ("Decimal(9, 2)", "12.500", Decimal("12.50")),
    ("Decimal(9, 2)", "-.5", Decimal("-0.50")),
    ("Decimal(9, 2)", 12.5, Decimal("12.50")),
    ("Decimal(9, 2)", "0009999999.99", Decimal("9999999.99")),
    ("Decimal(9, 0)", "5.", Decimal(5)),
    ("Decimal(76, 0)", "9" * 76, Decimal("9" * 76)),
    ("Bool", "true", True),
    ("Bool", "0", False),
    ("Bool", False, False),
    ("Bool", 1, True),
    ("String", "", ""),
    ("String", "\\N", "\\N"),
    ("String", "'; DROP TABLE t --", "'; DROP TABLE t --"),
    ("String", "a\tb\nc\r\n", "a\tb\nc\r\n"),
    ("Nullable(String)", "\\N", "\\N"),
    ("Nullable(String)", "NULL", "NULL"),
    ("Nullable(String)", None, None),
    ("Nullable(UInt8)", None, None),
    ("LowCardinality(Nullable(String))", None, None),
    ("LowCardinality(String)", "a", "a"),
    ("FixedString(4)", "éé", "éé"),
    ("Date", "1970-01-01", date(1970, 1, 1)),
    ("Date", "2149-06-06", date(2149, 6, 6)),
    ("Date", "2024-02-29", date(2024, 2, 29)),
    ("Date32", "1900-01-01", date(1900, 1, 1)),
    ("DateTime", "2026-01-31T12:00:00Z", NOON),
    ("DateTime", "2026-01-31 12:00:00", NOON),
    ("DateTime", "2026-01-31T12:00", NOON),
    ("DateTime", "2026-01-31T12:00:00.000", NOON),
    ("DateTime", "2026-01-31T17:30:00+05:30", NOON),
    ("DateTime", "2026-01-31T07:00:00-0500", NOON),
    ("DateTime", "2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
    ("DateTime", "2106-02-07T06:28:15Z", datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC)),
    ("DateTime('Europe/Berlin')", "2026-01-31T13:00:00", NOON),
    ("DateTime('Europe/Berlin')", "2026-01-31T12:00:00Z", NOON),
    # Clocks go back from 03:00 to 02:00 that night: the first 02:30 is meant.
    ("DateTime('Europe/Berlin')", "2026-10-25T02:30:00", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ("DateTime('Europe/Berlin')", "2026-10-25T02:30:00+01:00", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ("DateTime64(3)", "2026-01-31T12:00:00.123Z", NOON.replace(microsecond=123000)),
    ("DateTime64(3)", "1900-01-01T00:00:00Z", datetime(1900, 1, 1, tzinfo=UTC)),
    ("DateTime64(9)", "2026-01-31T12:00:00.123456000Z", NOON.replace(microsecond=123456)),
    ("Enum8('a' = 1, 'it\\'s' = 2)", "it's", "it's"),
    ("UUID", "61F0C404-5CB3-11E7-907B-A6006AD3DBA0", uuid.UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0")),
    ("IPv4", "192.0.2.1", IPv4Address("192.0.2.1")),
    ("IPv6", "2001:DB8::1", IPv6Address("2001:db8::1")),
    ("Array(UInt8)", "5", [5]),
    ("Array(UInt8)", ["5", "6"], [5, 6]),
    ("Array(UInt8)", "[5, 6]", [5, 6]),
    ("Array(UInt8)", "[]", []),
    ("Array(String)", "a,b", ["a,b"]),
    ("Array(String)", "", [""]),
    ("Array(String)", '["[", "\\\\N"]', ["[", "\\N"]),
    ("Array(Nullable(String))", ["a", None], ["a", None]),
    ("Array(Array(UInt8))", "[[1],[]]", [[1], []]),
]


@pytest.mark.parametrize(("text", "raw", "value"), GOOD)
def test_what_callers_may_send(text: str, raw: object, value: object) -> None:
    parsed = parse_value(parse_type(text), raw)
    assert parsed == value
    assert type(parsed) is type(value)
    orjson.dumps(show_value(parse_type(text), parsed))


BAD: list[tuple[str, object, str]] = [
    *(("UInt8", raw, "between 0 and 255") for raw in ("300", "256", "-1", 300, -1)),
    *(
        ("UInt8", raw, "digits only")
        for raw in ("", " 1", "1 ", "+1", "1_000", "1.0", "1e1", "0x1", "١", "１", "--1", "5 or 1=1")
    ),
    *(("UInt8", raw, "whole number, got") for raw in (1.0, True, [], ["5"], {})),
    ("UInt8", None, "must not be null"),
    ("UInt64", str(2**64), "between"),
    ("Int8", "-129", "between"),
    ("UInt32", "4294967297", "between"),
    ("UInt64", "9" * 5000, "digits only"),
    ("UInt128", 1e30, "send it as a string"),
    *(
        ("Float64", raw, "number")
        for raw in ("nan", "inf", "-Infinity", "1e999", "0x1p3", "", "1 ", "1_0", "١", True)
    ),
    ("Float32", "1e39", "finite"),
    ("Float64", 10**400, "finite"),
    ("Decimal(10, 2)", "1.239", "at most 2 digits after"),
    ("Decimal(4, 2)", "123.00", "at most 2 digits before"),
    ("Decimal(4, 2)", "1e2", "without exponent"),
    ("Decimal(38, 2)", 123456.7891234567, "sent as a string"),
    *(("Decimal(4, 2)", raw, "decimal number") for raw in ("", ".", "-", "+1", "NaN", "1,5", True)),
    *(("Bool", raw, "true or false") for raw in ("yes", "TRUE", "", 2, 1.0, 0.0, [], "tru")),
    *(("String", raw, "as a string, got") for raw in (5, 1.5, True, [], {})),
    *(("String", raw, "U+") for raw in ("a\0b", "\x1b[0m", "\x7f", "\ud800", "\x08")),
    ("String", "a" * 8193, "at most 8192 bytes"),
    ("String", "é" * 4097, "at most 8192 bytes"),
    ("FixedString(4)", "abcde", "at most 4 bytes"),
    ("FixedString(4)", "ééé", "at most 4 bytes"),
    *(
        ("Date", raw, "calendar")
        for raw in ("2026-02-30", "2026-02-29", "2026-13-01", "2026-00-10", "0000-01-01")
    ),
    *(
        ("Date", raw, "such as")
        for raw in ("2026-1-1", "20260101", "2026-01-01T00:00:00", "today", "", "２026-01-01")
    ),
    *(("Date", raw, "between") for raw in ("1969-12-31", "2149-06-07", "2300-01-01")),
    *(("Date32", raw, "between") for raw in ("1899-12-31", "2300-01-01")),
    ("Date", 20260101, "got a number"),
    *(
        ("DateTime", raw, "between")
        for raw in ("2106-02-07T06:28:16Z", "2200-01-01T00:00:00Z", "1969-12-31T23:59:59Z")
    ),
    *(
        ("DateTime", raw, "calendar or the clock")
        for raw in ("2026-02-30T00:00:00", "2026-01-01T24:00:00", "2026-01-01T00:00:60")
    ),
    *(
        ("DateTime", raw, "such as")
        for raw in ("1767225600", "2026-01-01T00", "now", "", "2026-01-01T00:00:00z")
    ),
    ("DateTime", "2026-01-31T12:00:00 01:00", "%2B"),
    ("DateTime", "2026-01-31T12:00:00+25:00", "offset"),
    ("DateTime", "2026-01-31T12:00:00.5Z", "at most 0 digits"),
    ("DateTime64(3)", "2026-01-31T12:00:00.1234Z", "at most 3 digits"),
    ("DateTime64(9)", "2026-01-31T12:00:00.123456789Z", "at most 6 digits"),
    ("DateTime64(9)", "2263-01-01T00:00:00Z", "between"),
    ("DateTime64(3)", "0001-01-01T00:00:00+10:00", "out of range"),
    # Clocks go forward from 02:00 to 03:00 that night.
    ("DateTime('Europe/Berlin')", "2026-03-29T02:30:00", "clocks skip it"),
    ("Enum8('a' = 1, 'b' = 2)", "c", "one of a, b"),
    ("Enum8('a' = 1, 'b' = 2)", 1, "not a number"),
    *(
        ("UUID", raw, "UUID")
        for raw in ("61f0c4045cb311e7907ba6006ad3dba0", "{61f0c404-5cb3-11e7-907b-a6006ad3dba0}", "", 5)
    ),
    *(("IPv4", raw, "IPv4") for raw in ("1.2.3", "1.2.3.256", "01.2.3.4", "", 16909060)),
    *(("IPv6", raw, "IPv6") for raw in ("1.2.3.4", ":::", "", "g::")),
    ("IPv6", "fe80::1%eth0", "zone"),
    ("Array(UInt8)", "[1,", "JSON list"),
    ("Array(UInt8)", "[1, 300]", "item 1: must be between"),
    ("Array(UInt8)", [1, None], "item 1: must not be null"),
    ("Array(UInt8)", 5, "a list, got a number"),
    ("Array(UInt8)", {"a": 1}, "an object"),
    ("Array(UInt8)", "a", "item 0"),
    ("Array(Array(UInt8))", ["[1]"], "item 0: expected a list"),
    ("Array(UInt8)", [[1]], "item 0: expected a whole number, got a list"),
    ("Array(String)", ["a" * 5000, "b" * 5000], "at most 8192 bytes"),
    ("Array(UInt8)", [[[[[1]]]]], "deep"),
    ("Array(UInt8)", "[" * 4000, "JSON list"),
    ("UInt8", [[[[[[1]]]]]], "deep"),
]


@pytest.mark.parametrize(("text", "raw", "said"), BAD)
def test_what_callers_may_not_send(text: str, raw: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        parse_value(parse_type(text), raw)
    assert "\n" not in str(refused.value), "one sentence"


def test_a_deep_body_is_refused_not_a_crash() -> None:
    raw: object = 1
    for _ in range(1000):
        raw = [raw]
    with pytest.raises(ValueError, match="deep"):
        parse_value(parse_type("Array(UInt8)"), raw)


def test_a_time_without_zone_is_read_in_the_servers() -> None:
    parsed = parse_value(parse_type("DateTime"), "2026-01-31T13:00:00", timezone="Europe/Berlin")
    assert parsed == NOON
    with pytest.raises(ValueError, match="clocks skip it"):
        parse_value(parse_type("DateTime64(3)"), "2026-03-29T02:30:00", timezone="Europe/Berlin")


@given(
    st.sampled_from([text for text, _, _ in GOOD]),
    st.text(max_size=30)
    | st.from_regex(r"[-+0-9.eE:TZ ]{1,25}", fullmatch=True)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
)
def test_anything_is_a_value_of_the_domain_or_refused(text: str, raw: object) -> None:
    t = parse_type(text)
    try:
        value = parse_value(t, raw)
    except ValueError:
        return
    assert to_scalar(t, value).type == storage_type(t)
    assert isinstance(render_literal(t, value), str)
    assert "\n" not in render_parameter(t, value)
    assert "\t" not in render_parameter(t, value)


@pytest.mark.parametrize(
    ("text", "may"),
    [
        *((text, True) for text, _, _ in GOOD),
        *(
            (text, False)
            for text in (
                "Map(String, String)",
                "Tuple(UInt8, String)",
                "Array(Tuple(UInt8))",
                "Point",
                "Ring",
            )
        ),
        *(
            (text, False)
            for text in ("JSON", "Dynamic", "Identifier", "Array(Array(Array(UInt8)))", "Nothing", "Time")
        ),
        *((text, False) for text in ("IntervalDay", "AggregateFunction(uniq, UInt8)", "Nested(a UInt8)")),
    ],
)
def test_types_that_variables_may_have(text: str, may: bool) -> None:
    assert is_variable_type(parse_type(text)) is may


@pytest.mark.parametrize("text", sorted({text for text, _, _ in GOOD}))
def test_an_example_is_a_value(text: str) -> None:
    t = parse_type(text)
    assert parse_value(t, show_value(t, example_value(t))) == example_value(t)
