"""Upstream tables as external assets, found in the endpoints' SQL: lineage without anything to declare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import dagster as dg

from endpoints.definition import Source
from endpoints.query.tables import Table
from endpoints.units import show_duration
from orchestration.catalog import Listed

GROUP = "clickhouse"


def table_key(table: Table) -> dg.AssetKey:
    """The key of a ClickHouse table, `clickhouse/<table>` or `clickhouse/<database>/<table>`."""
    return dg.AssetKey([GROUP, *([table.database] if table.database else []), table.name])


def source_assets(versions: Iterable[Listed]) -> Iterator[dg.AssetSpec]:
    """One external asset for each table that any endpoint reads, with what sources.yaml says of it."""
    found = {table: Source(table) for listed in versions for table in listed.reads}
    found |= {source.table: source for listed in versions for source in listed.sources}
    for table, source in sorted(found.items(), key=lambda item: str(item[0])):
        said = {
            "timestamp": source.timestamp,
            "freshness": show_duration(source.freshness) if source.freshness else None,
        }
        yield dg.AssetSpec(
            table_key(table),
            description=source.description or f"The ClickHouse table {table}, which endpoints read.",
            owners=[owner_of(source.owner)] if source.owner else [],
            metadata={"dagster/table_name": str(table)} | {k: v for k, v in said.items() if v},
            group_name=GROUP,
            kinds={"clickhouse", "table"},
        )


def owner_of(text: str) -> str:
    """Dagster knows e-mail addresses and `team:name`; anything else is taken for a team."""
    if re.fullmatch(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", text):
        return text
    return f"team:{text.removeprefix('team:')}"
