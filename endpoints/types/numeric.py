"""Numbers: integers of every width, floats, decimals, Bool."""

from __future__ import annotations

import decimal
import math
import re
import struct
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from endpoints.types.family import Family, Form, Integers, Text, Value, as_numbers, as_strings, json_kind, row
from endpoints.types.grammar import ClickHouseType

_WHOLE = re.compile(r"-?[0-9]{1,80}")
_REAL = re.compile(r"-?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")
_FIXED = re.compile(r"-?(?:[0-9]{1,80}(?:\.[0-9]{0,80})?|\.[0-9]{1,80})")


def _bits(t: ClickHouseType) -> int:
    return int(t.name.partition("Int")[2])


def bounds(t: ClickHouseType) -> tuple[int, int]:
    """The least and greatest value of an integer type."""
    bits = _bits(t)
    return (0, (1 << bits) - 1) if t.name.startswith("U") else (-(1 << bits - 1), (1 << bits - 1) - 1)


@row
class Integer(Family):
    """Integers up to 64 bits: JSON numbers, or for 64 bits strings where a caller asks for them."""

    names: ClassVar[tuple[str, ...]] = (
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Int8",
        "Int16",
        "Int32",
        "Int64",
    )
    bare = True

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.type_for_alias(t.name.lower())

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        return as_strings(array) if self._quoted(t, form.integers) else as_numbers(array)

    def text(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[str | None]:
        return as_strings(array)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        if self._quoted(t, integers):
            return {"type": "string", "pattern": "^-?[0-9]+$"}
        least, greatest = bounds(t)
        width = {"format": "int64"} if t.name == "Int64" else {"format": "int32"} if t.name == "Int32" else {}
        return {"type": "integer", **width, "minimum": least, "maximum": greatest}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> int:
        if isinstance(raw, bool) or not isinstance(raw, (int, str)):
            point = " with a point or too large; send it as a string" if isinstance(raw, float) else ""
            raise ValueError(f"expected a whole number, got {json_kind(raw)}{point}")
        if isinstance(raw, str) and not _WHOLE.fullmatch(raw):
            raise ValueError("expected a whole number, in digits only")
        least, greatest = bounds(t)
        if not least <= int(raw) <= greatest:
            raise ValueError(f"must be between {least} and {greatest}")
        return int(raw)

    def show(self, t: ClickHouseType, value: int) -> Any:
        return value

    def example(self, t: ClickHouseType) -> Value:
        return 1

    def _quoted(self, t: ClickHouseType, integers: Integers) -> bool:
        return integers == "string" and _bits(t) == 64


@row
class WideInteger(Text, Integer):
    """Integers of 128 and 256 bits, stored as ClickHouse does: little-endian bytes. Strings in JSON."""

    names = ("UInt128", "UInt256", "Int128", "Int256")

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.binary(_bits(t) // 8)

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if pa.types.is_binary(array.type) or pa.types.is_fixed_size_binary(array.type):
            return array.cast(self.storage(t))
        return pa.array(
            [None if n is None else self.scalar(t, int(n)) for n in array.to_pylist()], self.storage(t)
        )

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        signed = t.name.startswith("Int")
        return [
            None if raw is None else str(int.from_bytes(raw, "little", signed=signed))
            for raw in array.to_pylist()
        ]

    def text(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[str | None]:
        return self.json(array, t, form)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "pattern": "^-?[0-9]+$" if t.name.startswith("Int") else "^[0-9]+$"}

    def scalar(self, t: ClickHouseType, value: int) -> object:
        return value.to_bytes(_bits(t) // 8, "little", signed=t.name.startswith("Int"))

    def show(self, t: ClickHouseType, value: int) -> Any:
        return str(value)


@row
class Float(Family):
    """Floats: JSON numbers in their shortest form; NaN and the infinities are null, since JSON has none."""

    names = ("Float32", "Float64")
    bare = True

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.float32() if t.name == "Float32" else pa.float64()

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        if t.name == "Float32":
            # By way of its shortest text, or 0.1 would read 0.10000000149011612.
            array = array.cast(pa.string()).cast(pa.float64())
        finite = pc.is_finite(array)
        if not pc.all(finite, min_count=0).as_py():
            array = pc.if_else(finite, array, pa.scalar(None, pa.float64()))
        return array.to_pylist()  # type: ignore[no-any-return]

    def text(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[str | None]:
        return [None if x is None else repr(x) for x in self.json(array, t, form)]

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        # NaN is null, so that any float may be.
        return {"type": ["number", "null"], "format": "float" if t.name == "Float32" else "double"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> float:
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            raise ValueError(f"expected a number, got {json_kind(raw)}")
        if isinstance(raw, str) and not _REAL.fullmatch(raw):
            raise ValueError("expected a number such as 1.5 or 2e-3; NaN and infinities are not accepted")
        try:
            value = float(raw)
            if t.name == "Float32":
                value = float(struct.unpack("f", struct.pack("f", value))[0])
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise ValueError(f"must be a finite number within the range of {t.name}")
        return value

    def render(self, t: ClickHouseType, value: float) -> str:
        return repr(float(value))

    def literal(self, t: ClickHouseType, value: float) -> str:
        # By its bytes: old servers round what they read from text, and refuse 5e-324.
        raw = struct.pack("<d" if t.name == "Float64" else "<f", value)
        return f"reinterpretAs{t.name}(unhex('{raw.hex()}'))"

    def show(self, t: ClickHouseType, value: float) -> Any:
        return value

    def example(self, t: ClickHouseType) -> Value:
        return 1.0


@row
class Decimal(Family):
    """Decimals: exact strings with all the digits of their scale."""

    names = ("Decimal",)
    bare = True

    def storage(self, t: ClickHouseType) -> pa.DataType:
        precision, scale = t.numbers
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        texts = as_strings(array)
        if t.numbers[1] <= 6:
            return texts
        # Arrow writes small ones as 1E-8.
        return [
            format(decimal.Decimal(text), "f") if text is not None and "E" in text else text for text in texts
        ]

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        _, scale = t.numbers
        return {
            "type": "string",
            "pattern": r"^-?[0-9]+$" if scale == 0 else rf"^-?[0-9]+\.[0-9]{{{scale}}}$",
        }

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> decimal.Decimal:
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            raise ValueError(f"expected a decimal number, got {json_kind(raw)}")
        text = raw if isinstance(raw, str) else repr(raw)
        if not _FIXED.fullmatch(text):
            raise ValueError("expected a decimal number such as 12.50, without exponent")
        if isinstance(raw, float) and len(text.strip("-0.").replace(".", "")) > 15:
            raise ValueError("must be sent as a string: JSON numbers are not exact past 15 digits")
        precision, scale = t.numbers
        whole, _, fraction = text.removeprefix("-").partition(".")
        if len(fraction.rstrip("0")) > scale:
            raise ValueError(f"must have at most {scale} digits after the point")
        if len(whole.lstrip("0")) > precision - scale:
            raise ValueError(f"must have at most {precision - scale} digits before the point")
        digits = (whole or "0") + "." + fraction[:scale].ljust(scale, "0")
        return decimal.Decimal(("-" if text.startswith("-") else "") + digits.rstrip("."))

    def render(self, t: ClickHouseType, value: decimal.Decimal) -> str:
        return format(value, "f")

    def example(self, t: ClickHouseType) -> Value:
        return decimal.Decimal(0).scaleb(-t.numbers[1])


@row
class Bool(Family):
    """Bool."""

    names = ("Bool",)
    bare = True

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.bool_()

    def text(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[str | None]:
        return as_strings(array)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "boolean"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> bool:
        match raw:
            case "true" | "True" | "1":
                return True
            case "false" | "False" | "0":
                return False
            case bool() | 0 | 1 if not isinstance(raw, float):
                return bool(raw)
        raise ValueError("expected true or false")

    def render(self, t: ClickHouseType, value: bool) -> str:
        return "true" if value else "false"

    def show(self, t: ClickHouseType, value: bool) -> Any:
        return value

    def example(self, t: ClickHouseType) -> Value:
        return True
