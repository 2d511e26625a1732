"""Types without an exact form here, each with the way out that the message names."""

from __future__ import annotations

from typing import Final

WAYS_OUT: Final[dict[str, str]] = {
    "JSON": "toJSONString({0})",
    "Object": "toJSONString({0})",
    "Variant": "toJSONString({0}), or variantElement({0}, 'Type')",
    "Dynamic": "toJSONString({0}), or dynamicElement({0}, 'Type')",
    "Geometry": "wkt({0})",
    "AggregateFunction": "finalizeAggregation({0})",
    "Time": "toString({0})",
    "Time64": "toString({0})",
    "BFloat16": "toFloat32({0})",
    "Nothing": "CAST({0} AS Nullable(String)), or the type that the values have elsewhere,",
    "QBit": "CAST({0} AS Array(Float32))",
    **{
        f"Interval{unit}": "toInt64({0})"
        for unit in (
            "Nanosecond",
            "Microsecond",
            "Millisecond",
            "Second",
            "Minute",
            "Hour",
            "Day",
            "Week",
            "Month",
            "Quarter",
            "Year",
        )
    },
}
