"""How large an asset would be, asked of the warehouse before anything is written.

Only dimensions make an asset larger than an answer: a row is stored for each of their values that occurs. So
the one with the most values is to blame when there are too many rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.definition import Version
from endpoints.errors import AssetTooLarge, WarehouseError
from endpoints.query.plan import Plan
from endpoints.query.slices import Bounds, Sliced, Unsliced, slices_of
from endpoints.query.tables import bounding_tables, reads, tables
from endpoints.types.grammar import identifier
from endpoints.warehouse.protocol import Caps, Statement, Warehouse

_NONE: Bounds = MappingProxyType({})
_SAMPLE_ROWS = 65_536
_SOURCES_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Cardinality:
    """Rows of an asset, and how many values each dimension has, by the dimension's text, most first.

    Counts of values are exact to 65,536 and estimates above (`uniq`); NULL is not counted.
    """

    rows: int
    distinct: Mapping[str, int]


def sources_fit(
    plan: Plan, version: Version, warehouse: Warehouse, most: int, bounds: Bounds = _NONE
) -> bool:
    """Whether the tables that the plan reads have too few rows for it to store more than `most`; of the table
    that is sliced, the slice that has `bounds`.

    False also where that cannot be told: the query may multiply rows, or they cannot be counted quickly.
    """
    read = _read(plan.materialize_sql, slices_of(version))
    if not read:
        return False
    sql = f"SELECT {' + '.join(f'(SELECT count() FROM {source})' for source in read)}"  # noqa: S608  (quoted)
    try:
        with warehouse.run(Statement(sql, bounds), Caps(timeout=_SOURCES_TIMEOUT)) as result:
            rows: int = pa.Table.from_batches(list(result)).column(0)[0].as_py()
    except WarehouseError:
        return False
    return rows <= most


def _read(sql: str, sliced: Sliced | Unsliced | None) -> list[str]:
    """What bounds the rows of a query, as FROM has it; nothing where that is not known."""
    whole, slices = bounding_tables(sql), list[str]()
    if isinstance(sliced, Sliced):
        if len(reads(sql)) > len(whole):
            return []  # a table that is read sliced and whole
        slices = [f"{sliced.read} WHERE {' AND '.join(sliced.conjuncts)}"] if whole else []
        whole = tuple(table for table in whole if table not in tables(f"SELECT 1 FROM {sliced.read}"))  # noqa: S608
    return [*(".".join(identifier(part) for part in (t.database, t.name) if part) for t in whole), *slices]


def measure(plan: Plan, warehouse: Warehouse, bounds: Bounds = _NONE) -> Cardinality:
    """Count what the plan would store, of a slice if it has `bounds`. The aggregates that it stores are not
    computed for this.
    """
    counts = ["count()", *(f"uniq({dimension.column})" for dimension in plan.dimensions)]
    sql = f"SELECT {', '.join(counts)}\nFROM (\n{plan.materialize_sql}\n)"
    with warehouse.run(Statement(sql, bounds), Caps()) as result:
        rows, *values = (column[0].as_py() for column in pa.Table.from_batches(list(result)).columns)
    named: dict[str, int] = dict(zip((d.expression for d in plan.dimensions), values, strict=True))
    return Cardinality(rows, dict(sorted(named.items(), key=lambda pair: -pair[1])))


def estimate_bytes(plan: Plan, warehouse: Warehouse, rows: int, bounds: Bounds = _NONE) -> int:
    """Bytes of the asset's files, if all rows are like the first ones."""
    seen: list[pa.RecordBatch] = []
    with warehouse.run(Statement(plan.materialize_sql, bounds), Caps()) as result:
        for batch in result:
            seen.append(batch)
            if sum(one.num_rows for one in seen) >= _SAMPLE_ROWS:
                break
    sampled: int = sum(batch.num_rows for batch in seen)
    if not sampled:
        return 0
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches(seen), sink, compression="zstd")
    size: int = sink.getvalue().size
    return round(size * rows / sampled)


def too_large(version: Version, found: Cardinality, most: int) -> AssetTooLarge:
    """Says which dimension is to blame and what to do."""
    stored = f"{version.key} would store {found.rows:,} rows, more than the {most:,} of `max_asset_rows`."
    if not found.distinct:
        return AssetTooLarge(f"{stored} Aggregate or LIMIT them, or raise `limits.max_asset_rows`.")
    (worst, values), *others = found.distinct.items()
    rest = "; ".join(f"{name} has {count:,}" for name, count in others)
    return AssetTooLarge(
        f"{stored} The dimension {worst} has {values:,} distinct values{f' ({rest})' if rest else ''}. "
        "Compare something coarser, such as a bucket of it (toDate of a time), "
        "or raise `limits.max_asset_rows`."
    )
