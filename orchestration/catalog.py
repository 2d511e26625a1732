"""What the code location lists: each version with what its text alone tells, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

from endpoints.definition import Definitions, Endpoint, Source, Sources, Version
from endpoints.query.tables import Table, tables
from orchestration.materialize import NotMaterializable, plan_of


@dataclass(frozen=True, slots=True)
class Listed:
    """A version: why it has no asset of its own (None where it has one), the tables that it reads, and what
    sources.yaml says of them.
    """

    endpoint: Endpoint
    version: Version
    live_only: str | None
    reads: tuple[Table, ...]
    sources: tuple[Source, ...] = ()


def catalog(definitions: Definitions) -> tuple[Listed, ...]:
    """Every version of every endpoint that can serve. Asks neither ClickHouse nor the lake."""
    return tuple(
        listed(endpoint, version, definitions.sources)
        for endpoint in definitions.endpoints.values()
        for version in endpoint.versions.values()
    )


def listed(endpoint: Endpoint, version: Version, sources: Sources) -> Listed:
    """One version, as the catalog lists it."""
    reads = tables(version.sql)
    try:
        plan_of(version)
    except NotMaterializable as why:
        return Listed(endpoint, version, str(why), reads, sources.of(reads))
    return Listed(endpoint, version, None, reads, sources.of(reads))
