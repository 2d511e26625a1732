"""What reads as text: String, FixedString, Enum, UUID, addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endpoints.types.family import Form, Integers, Text, Value, expect_text, json_kind, row
from endpoints.types.grammar import ClickHouseType, quote

# Tab, newline and carriage return are text; the rest of C0 and DEL are refused, and so are halves of
# surrogate pairs, which no UTF-8 can hold.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\ud800-\udfff]")
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_UUID_PLACES = [place for place in range(36) if place not in (8, 13, 18, 23)]
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def clean_text(raw: object, what: str = "text") -> str:
    """`raw` if it is text without control characters or lone surrogates."""
    text = expect_text(raw, what)
    if found := _UNFIT.search(text):
        raise ValueError(f"must not hold the character U+{ord(found[0]):04X}")
    return text


@row
class String(Text):
    """String: any bytes. JSON and CSV show them as UTF-8, with U+FFFD for what is not."""

    names = ("String",)

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.binary()

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        return array.cast(pa.binary())

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        try:
            return array.view(pa.string()).to_pylist()  # type: ignore[no-any-return]
        except UnicodeDecodeError:
            return [None if raw is None else raw.decode("utf-8", "replace") for raw in array.to_pylist()]

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        try:
            return array.cast(pa.string())
        except pa.ArrowInvalid:
            return super().to_arrow(array, t, form)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> str:
        return clean_text(raw)

    def literal(self, t: ClickHouseType, value: str) -> str:
        return quote(value)

    def scalar(self, t: ClickHouseType, value: str) -> object:
        return value.encode()

    def example(self, t: ClickHouseType) -> Value:
        return "a"


@row
class FixedString(String):
    """FixedString(n): n bytes. The zero bytes that fill it up at the end are not shown."""

    names = ("FixedString",)

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.binary(t.numbers[0])

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if array.type == self.storage(t):
            return array
        # clickhouse-driver cuts the zero bytes off.
        text = array.cast(pa.binary())
        zeros = pc.binary_repeat(b"\0", pc.subtract(t.numbers[0], pc.binary_length(text)))
        return pc.binary_join_element_wise(text, zeros, b"").cast(self.storage(t))

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        return [
            None if raw is None else raw.rstrip(b"\0").decode("utf-8", "replace") for raw in array.to_pylist()
        ]

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        return Text.to_arrow(self, array, t, form)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "maxLength": t.numbers[0]}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> str:
        text = clean_text(raw)
        if len(text.encode()) > t.numbers[0]:
            raise ValueError(f"must be at most {t.numbers[0]} bytes")
        return text

    def literal(self, t: ClickHouseType, value: str) -> str:
        return f"toFixedString({quote(value)}, {t.numbers[0]})"

    def scalar(self, t: ClickHouseType, value: str) -> object:
        return value.encode().ljust(t.numbers[0], b"\0")


@row
class Enum(Text):
    """Enum8, Enum16: the member's name."""

    names = ("Enum8", "Enum16")

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.string()

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if not pa.types.is_integer(array.type):
            return array.cast(pa.string())
        numbers = pa.array([m.number for m in t.members], array.type)
        names = pa.array([m.name for m in t.members], pa.string())
        return names.take(pc.index_in(array, numbers))

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "enum": [m.name for m in t.members]}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> str:
        names = [m.name for m in t.members]
        if raw not in names:
            shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            raise ValueError(
                f"must be one of {shown}" + ("" if isinstance(raw, str) else f", not {json_kind(raw)}")
            )
        return str(raw)

    def example(self, t: ClickHouseType) -> Value:
        return t.members[0].name


@row
class Uuid(Text):
    """UUID, stored as its sixteen bytes in the order they are read in."""

    names = ("UUID",)

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.binary(16)

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if pa.types.is_string(array.type):
            plain = pc.replace_substring(array, "-", "")
            return pa.array(
                [None if x is None else bytes.fromhex(x) for x in plain.to_pylist()], pa.binary(16)
            )
        return array.cast(pa.binary(16))

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        raw = np.frombuffer(array.buffers()[1] or b"", np.uint8)
        raw = raw[array.offset * 16 : (array.offset + len(array)) * 16].reshape(-1, 16)
        text = np.full((len(array), 36), ord("-"), np.uint8)
        text[:, _UUID_PLACES] = _HEX[np.stack([raw >> 4, raw & 15], axis=2).reshape(-1, 32)]
        texts = pa.Array.from_buffers(pa.binary(36), len(array), [None, pa.py_buffer(text)])
        texts = texts.cast(pa.binary()).cast(pa.string())
        return pc.if_else(array.is_valid(), texts, None).to_pylist()  # type: ignore[no-any-return]

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> uuid.UUID:
        if not _UUID.fullmatch(expect_text(raw, "a UUID")):
            raise ValueError("expected a UUID such as 61f0c404-5cb3-11e7-907b-a6006ad3dba0")
        return uuid.UUID(str(raw))

    def scalar(self, t: ClickHouseType, value: uuid.UUID) -> object:
        return value.bytes

    def example(self, t: ClickHouseType) -> Value:
        return uuid.UUID(int=0)


@row
class IPv4(Text):
    """IPv4, stored as its number."""

    names = ("IPv4",)

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.uint32()

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if pa.types.is_string(array.type):
            return pa.array(
                [None if x is None else int.from_bytes(socket.inet_aton(x)) for x in array.to_pylist()],
                pa.uint32(),
            )
        return array.cast(pa.uint32())

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        return [
            None if n is None else f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
            for n in array.to_pylist()
        ]

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "format": "ipv4"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> ipaddress.IPv4Address:
        try:
            return ipaddress.IPv4Address(expect_text(raw, "an IPv4 address"))
        except ipaddress.AddressValueError:
            raise ValueError("expected an IPv4 address such as 192.0.2.1") from None

    def scalar(self, t: ClickHouseType, value: ipaddress.IPv4Address) -> object:
        return int(value)

    def example(self, t: ClickHouseType) -> Value:
        return ipaddress.IPv4Address("192.0.2.1")


@row
class IPv6(Text):
    """IPv6, stored as its sixteen bytes."""

    names = ("IPv6",)

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.binary(16)

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if pa.types.is_string(array.type):
            return pa.array(
                [None if x is None else ipaddress.IPv6Address(x).packed for x in array.to_pylist()],
                pa.binary(16),
            )
        return array.cast(pa.binary(16))

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        return [None if raw is None else socket.inet_ntop(socket.AF_INET6, raw) for raw in array.to_pylist()]

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "format": "ipv6"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> ipaddress.IPv6Address:
        try:
            address = ipaddress.IPv6Address(expect_text(raw, "an IPv6 address"))
        except ipaddress.AddressValueError:
            raise ValueError("expected an IPv6 address such as 2001:db8::1") from None
        if address.scope_id is not None:
            raise ValueError("must not have a zone index")
        return address

    def scalar(self, t: ClickHouseType, value: ipaddress.IPv6Address) -> object:
        return value.packed

    def example(self, t: ClickHouseType) -> Value:
        return ipaddress.IPv6Address("2001:db8::1")
