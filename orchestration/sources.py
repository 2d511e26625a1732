"""Upstream tables as external assets, found in the endpoints' SQL: lineage without anything to declare."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from endpoints.definition import Definitions
from endpoints.query.tables import Table, tables

GROUP = "clickhouse"


def table_key(table: Table) -> dg.AssetKey:
    """The key of a ClickHouse table, `clickhouse/<table>` or `clickhouse/<database>/<table>`."""
    return dg.AssetKey([GROUP, *([table.database] if table.database else []), table.name])


def upstream(sql: str) -> list[dg.AssetKey]:
    """The keys of the tables that a query reads."""
    return [table_key(table) for table in tables(sql)]


def source_assets(definitions: Definitions) -> Iterator[dg.AssetSpec]:
    """One external asset for each table that any endpoint reads."""
    found = {table for version in definitions.versions for table in tables(version.sql)}
    for table in sorted(found, key=str):
        yield dg.AssetSpec(
            table_key(table),
            description=f"The ClickHouse table {table}, which endpoints read.",
            group_name=GROUP,
            kinds={"clickhouse", "table"},
        )
