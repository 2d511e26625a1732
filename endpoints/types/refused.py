"""Types without an exact form here, and the way out that the message names for each."""

from __future__ import annotations

from typing import Final

from endpoints.errors import UnsupportedType
from endpoints.types.grammar import ClickHouseType, identifier

_INTERVALS = (
    *("Nanosecond", "Microsecond", "Millisecond", "Second", "Minute"),
    *("Hour", "Day", "Week", "Month", "Quarter", "Year"),
)

WAYS_OUT: Final[dict[str, str]] = {
    "JSON": "toJSONString({column})",
    "Object": "toJSONString({column})",
    "Variant": "toJSONString({column}) or variantElement({column}, 'Type')",
    "Dynamic": "toJSONString({column}) or dynamicElement({column}, 'Type')",
    "Geometry": "wkt({column})",
    "AggregateFunction": "finalizeAggregation({column})",
    "Time": "toString({column})",
    "Time64": "toString({column})",
    **{f"Interval{unit}": "toInt64({column})" for unit in _INTERVALS},
    "BFloat16": "toFloat32({column})",
    "QBit": "CAST({column} AS Array(Float32))",
    "Nothing": "CAST({column} AS {filled})",
}
"""What to select instead of a column of the type."""

WAYS_OUT_WITHIN: Final[dict[str, str]] = {
    "AggregateFunction": "arrayMap(state -> finalizeAggregation(state), {column})",
    "Nothing": WAYS_OUT["Nothing"],
}
"""The same where the type stands within an Array, Tuple or Map; `toJSONString` for all others."""


def refusal(part: ClickHouseType, whole: ClickHouseType, column: str | None = None) -> UnsupportedType:
    """Why a column of type `whole` has no form here, `part` of it having none, and what to select instead."""
    ways_out = WAYS_OUT if part.base == whole.base else WAYS_OUT_WITHIN
    way_out = ways_out.get(part.base.name, "toJSONString({column})")
    if part.base.name not in WAYS_OUT:
        return UnsupportedType(whole.text, column, f"{part} is not a type that this version knows.")
    name = identifier(column or "column")
    filled = whole.text.replace("Nothing", "String")
    return UnsupportedType(
        whole.text, column, f"Select {way_out.format(column=name, filled=filled)} instead."
    )
