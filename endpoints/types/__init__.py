"""One table: ClickHouse type ↔ Arrow ↔ JSON, CSV ↔ OpenAPI ↔ Polars, pandera ↔ variables' values.

Each row is a class, a `Family`, which has all the forms of its types in one place:

| family | ClickHouse | storage (Arrow) | JSON |
|---|---|---|---|
| Integer | UInt8…64, Int8…64 | the same | number (64 bits: string on request) |
| WideInteger | (U)Int128, (U)Int256 | binary(16), binary(32), little-endian | string |
| Float | Float32, Float64 | the same | number; NaN and infinities null |
| Decimal | Decimal(p, s) | decimal128, decimal256 | string with s digits after the point |
| Bool | Bool | bool | boolean |
| String | String | binary | string, U+FFFD for what is not UTF-8 |
| FixedString | FixedString(n) | binary(n) | string without the zero bytes at its end |
| Enum | Enum8, Enum16 | string | the member's name |
| Uuid | UUID | binary(16) | string |
| IPv4, IPv6 | IPv4, IPv6 | uint32, binary(16) | string |
| Date | Date, Date32 | date32 | "2026-01-31" |
| DateTime | DateTime, DateTime64(s) | timestamp(ms, us or ns; UTC) | "2026-01-31T14:30:00+01:00" |
| Array | Array, Nested, Ring, … | list | list |
| Tuple | Tuple, Point | struct | list, with names an object |
| Map | Map | map | object |

Around the rows: `grammar` reads types, `columns` and `values` apply the table, `refused` names the way out
for types without a row, `driver` says what clickhouse-driver must be told. Users see the table in
`docs/types.md`.
"""

from endpoints.types import nested, numeric, temporal, textual  # noqa: F401  (each fills in its rows)
from endpoints.types.columns import (
    arrow_schema,
    check_storable,
    csv_values,
    json_values,
    openapi_schema,
    polars_type,
    storage_schema,
    storage_type,
    structure,
    to_arrow_batch,
    to_storage,
    to_storage_batch,
)
from endpoints.types.driver import driver_type
from endpoints.types.family import Integers, Value, families
from endpoints.types.grammar import ClickHouseType, Column, Element, Member, parse_type
from endpoints.types.values import (
    example_value,
    is_variable_type,
    parse_value,
    render_literal,
    render_parameter,
    show_value,
    stored,
    to_scalar,
)

__all__ = [
    "ClickHouseType",
    "Column",
    "Element",
    "Integers",
    "Member",
    "Value",
    "arrow_schema",
    "check_storable",
    "csv_values",
    "driver_type",
    "example_value",
    "families",
    "is_variable_type",
    "json_values",
    "openapi_schema",
    "parse_type",
    "parse_value",
    "polars_type",
    "render_literal",
    "render_parameter",
    "show_value",
    "storage_schema",
    "storage_type",
    "stored",
    "structure",
    "to_arrow_batch",
    "to_scalar",
    "to_storage",
    "to_storage_batch",
]
