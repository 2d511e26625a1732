"""ClickHouse's type grammar: the text that `DESCRIBE` and `{name:Type}` hold, as a tree.

    type      = name [ "(" arguments ")" ]
    Nullable(T)  LowCardinality(T)  Array(T)  Map(K, V)  SimpleAggregateFunction(f, T)
    Tuple([name] T, …)  Nested(name T, …)  Enum8('a' = 1, …)
    FixedString(n)  Decimal(p, s)  DateTime(['zone'])  DateTime64(scale[, 'zone'])

Whatever has no form here anyway (`JSON(…)`, `AggregateFunction(…)`) keeps its arguments as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

from endpoints.errors import UnsupportedType

MAX_DEPTH = 32

# Types that are nothing but another name for a type built of others.
_SHAPES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(LineString)",
    "Polygon": "Array(Ring)",
    "MultiPolygon": "Array(Polygon)",
}
_DECIMAL_PRECISION = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
_WRAPPERS = ("Nullable", "LowCardinality")
_ENUM_BITS = {"Enum8": 8, "Enum16": 16}
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a Tuple or Nested: its name, if it has one, and its type."""

    name: str | None
    type: ClickHouseType


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an Enum."""

    name: str
    number: int


Argument: TypeAlias = "ClickHouseType | Element | Member | int | str"


@dataclass(frozen=True, eq=False)
class ClickHouseType:
    """A ClickHouse type. `text` is its canonical form, as `DESCRIBE` writes it but on one line.

    Equal texts are equal types; `str(t)` is the text.
    """

    text: str
    name: str
    args: tuple[Argument, ...] = ()

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClickHouseType) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @cached_property
    def base(self) -> ClickHouseType:
        """The type of the values: without Nullable, LowCardinality, SimpleAggregateFunction, aliases."""
        if self.name in _WRAPPERS or self.name == "SimpleAggregateFunction":
            return self.inner.base
        if self.name in _SHAPES:
            return parse_type(_SHAPES[self.name])
        if self.name == "Nested":
            row = ClickHouseType(f"Tuple({_inside(self.text)})", "Tuple", self.args)
            return ClickHouseType(f"Array({row.text})", "Array", (row,))
        return self

    @cached_property
    def nullable(self) -> bool:
        """Whether a value may be NULL."""
        if self.name in ("LowCardinality", "SimpleAggregateFunction"):
            return self.inner.nullable
        return self.name == "Nullable"

    @property
    def inner(self) -> ClickHouseType:
        """The type inside Nullable, LowCardinality, SimpleAggregateFunction or Array."""
        inner = self.args[-1]
        assert isinstance(inner, ClickHouseType), f"{self.text} has no inner type"
        return inner

    @property
    def key_and_value(self) -> tuple[ClickHouseType, ClickHouseType]:
        """The two types of a Map."""
        key, value = self.args
        assert isinstance(key, ClickHouseType)
        assert isinstance(value, ClickHouseType)
        return key, value

    @property
    def elements(self) -> tuple[Element, ...]:
        """The elements of a Tuple."""
        return tuple(a for a in self.args if isinstance(a, Element))

    @property
    def parts(self) -> tuple[ClickHouseType, ...]:
        """The types that this one is made of."""
        return tuple(
            a.type if isinstance(a, Element) else a
            for a in self.args
            if isinstance(a, (Element, ClickHouseType))
        )

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of an Enum, by number."""
        return tuple(a for a in self.args if isinstance(a, Member))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The whole numbers: (n) of FixedString, (p, s) of Decimal, (scale) of DateTime64."""
        return tuple(a for a in self.args if isinstance(a, int))

    @property
    def timezone(self) -> str | None:
        """The time zone that a DateTime or DateTime64 names, also inside Nullable and the like."""
        if self.base.name not in ("DateTime", "DateTime64"):
            return None
        return next((a for a in self.base.args if isinstance(a, str)), None)


@dataclass(frozen=True, slots=True)
class Column:
    """A result column: its name and ClickHouse type."""

    name: str
    type: ClickHouseType


@lru_cache(maxsize=4096)
def parse_type(text: str) -> ClickHouseType:
    """The type that `text` names; `UnsupportedType` where it is not a type that ClickHouse writes."""
    return _parse(text, depth=0)


def quote(text: str) -> str:
    """`text` as a ClickHouse string literal."""
    return "'" + text.translate(_QUOTED) + "'"


def identifier(name: str) -> str:
    """`name` as a ClickHouse identifier: in backquotes, unless it is plain."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    return "`" + name.translate(_QUOTED).replace("\\'", "'").replace("`", "\\`") + "`"


_QUOTED = str.maketrans(
    {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"} | {"\b": "\\b"}
)


def _parse(text: str, depth: int) -> ClickHouseType:
    match = _PLAIN_NAME.match(text := text.strip())
    if match is None:
        raise UnsupportedType(repr(text), fix="Write a ClickHouse type such as String or Nullable(UInt64).")
    if depth > MAX_DEPTH:
        raise UnsupportedType(text[:80], fix=f"Types nest at most {MAX_DEPTH} deep.")
    name, rest = match[0], text[match.end() :].strip()
    if rest and not (rest.startswith("(") and rest.endswith(")")):
        raise UnsupportedType(repr(text), fix="It does not read as a ClickHouse type.")
    pieces = list(_split(rest[1:-1], text)) if rest else []
    try:
        return _build(name, pieces, text, depth)
    except (ValueError, IndexError, OverflowError) as error:
        raise UnsupportedType(repr(text), fix=f"Its arguments do not fit the type: {error}.") from error


def _build(name: str, pieces: list[str], text: str, depth: int) -> ClickHouseType:
    match name:
        case "Nullable" | "LowCardinality" | "Array":
            (piece,) = pieces
            return _composed(name, (_parse(piece, depth + 1),))
        case "Map":
            key, value = pieces
            return _composed(name, (_parse(key, depth + 1), _parse(value, depth + 1)))
        case "SimpleAggregateFunction":
            function, inner = ", ".join(pieces[:-1]), _parse(pieces[-1], depth + 1)
            return ClickHouseType(f"{name}({function}, {inner})", name, (function, inner))
        case "Tuple" | "Nested":
            elements = tuple(_element(piece, depth + 1) for piece in pieces)
            inside = ", ".join(_element_text(e) for e in elements)
            return ClickHouseType(f"{name}({inside})", name, elements)
        case "Enum8" | "Enum16" | "Enum":
            return _enum(name, pieces)
        case "FixedString":
            (n,) = map(_whole, pieces)
            return _checked(name, (n,), n >= 1)
        case "Decimal":
            precision, scale = (*map(_whole, pieces), 0)[:2]
            return _checked(name, (precision, scale), 1 <= precision <= 76 and scale <= precision)
        case "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256":
            (scale,) = map(_whole, pieces)
            precision = _DECIMAL_PRECISION[name]
            return _checked("Decimal", (precision, scale), scale <= precision)
        case "DateTime" | "DateTime32":
            return _composed("DateTime", tuple(map(_unquote, pieces[:1])))
        case "DateTime64":
            scale = _whole(pieces[0]) if pieces else 3
            return _checked(name, (scale, *map(_unquote, pieces[1:2])), scale <= 9)
        case _:
            inside = ", ".join(" ".join(piece.split()) for piece in pieces)
            return ClickHouseType(f"{name}({inside})" if pieces else name, name, (inside,) if pieces else ())


def _composed(name: str, args: tuple[Argument, ...]) -> ClickHouseType:
    inside = ", ".join(quote(a) if isinstance(a, str) else str(a) for a in args)
    return ClickHouseType(f"{name}({inside})" if args else name, name, args)


def _checked(name: str, args: tuple[Argument, ...], sound: bool) -> ClickHouseType:
    if not sound:
        raise ValueError(f"{args} is out of range")
    return _composed(name, args)


def _enum(name: str, pieces: list[str]) -> ClickHouseType:
    members: list[Member] = []
    for piece in pieces:
        end = _string_end(piece, 0)
        number = piece[end:].strip().removeprefix("=").strip()
        following = members[-1].number + 1 if members else 1
        members.append(Member(_unquote(piece[:end]), int(number) if number else following))
    bits = _ENUM_BITS.get(name) or (8 if all(-128 <= m.number < 128 for m in members) else 16)
    if not members or not all(-(1 << bits - 1) <= m.number < 1 << bits - 1 for m in members):
        raise ValueError("an Enum needs members within its range")
    members.sort(key=lambda m: m.number)
    if len({m.name for m in members}) < len(members) or len({m.number for m in members}) < len(members):
        raise ValueError("two members of the Enum are equal")
    inside = ", ".join(f"{quote(m.name)} = {m.number}" for m in members)
    return ClickHouseType(f"Enum{bits}({inside})", f"Enum{bits}", tuple(members))


def _element(piece: str, depth: int) -> Element:
    if piece[:1] in ("`", '"'):
        end = _string_end(piece, 0)
        return Element(_unquote(piece[:end]), _parse(piece[end:], depth))
    named = re.match(r"([A-Za-z_][A-Za-z0-9_]*)\s+(?=[A-Za-z_])", piece)
    if named:
        return Element(named[1], _parse(piece[named.end() :], depth))
    return Element(None, _parse(piece, depth))


def _element_text(element: Element) -> str:
    if element.name is None:
        return element.type.text
    return f"{identifier(element.name)} {element.type.text}"


def _split(inside: str, whole: str) -> Iterator[str]:
    """The comma separated pieces of `inside`, commas within brackets and quotes left alone."""
    depth = start = at = 0
    while at < len(inside):
        letter = inside[at]
        if letter in "'`\"":
            at = _string_end(inside, at)
            continue
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            yield inside[start:at].strip()
            start = at + 1
        at += 1
    if depth:
        raise UnsupportedType(repr(whole), fix="Its brackets do not match.")
    if inside.strip():
        yield inside[start:].strip()


def _string_end(text: str, start: int) -> int:
    """The place after the quoted string that begins at `start`."""
    mark, at = text[start : start + 1], start + 1
    if mark not in ("'", "`", '"'):
        raise UnsupportedType(repr(text), fix="A quoted name is expected here.")
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] != mark:
            at += 1
        elif text[at + 1 : at + 2] == mark:
            at += 2
        else:
            return at + 1
    raise UnsupportedType(repr(text), fix="A quote is not closed.")


def _unquote(text: str) -> str:
    if len(text) < 2 or _string_end(text, 0) != len(text):
        raise ValueError(f"{text} is not one quoted string")
    mark = text[0]
    found = re.compile(rf"\\x([0-9A-Fa-f]{{2}})|\\(.)|({mark}){mark}", re.DOTALL)

    def plain(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return match[3] or _ESCAPES.get(match[2], match[2])

    return found.sub(plain, text[1:-1])


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _inside(text: str) -> str:
    return text[text.index("(") + 1 : -1]
