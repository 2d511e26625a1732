"""Upstream tables as external assets, found in the endpoints' SQL: lineage without anything to declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import dagster as dg

from endpoints.query.tables import Table
from orchestration.catalog import Listed

GROUP = "clickhouse"


def table_key(table: Table) -> dg.AssetKey:
    """The key of a ClickHouse table, `clickhouse/<table>` or `clickhouse/<database>/<table>`."""
    return dg.AssetKey([GROUP, *([table.database] if table.database else []), table.name])


def source_assets(versions: Iterable[Listed]) -> Iterator[dg.AssetSpec]:
    """One external asset for each table that any endpoint reads."""
    found = {table for listed in versions for table in listed.reads}
    for table in sorted(found, key=str):
        yield dg.AssetSpec(
            table_key(table),
            description=f"The ClickHouse table {table}, which endpoints read.",
            group_name=GROUP,
            kinds={"clickhouse", "table"},
        )
