"""What the code location lists: each version with what its text alone tells, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

from endpoints.definition import Definitions, Endpoint, Version
from endpoints.query.tables import Table, tables
from orchestration.materialize import NotMaterializable, plan_of


@dataclass(frozen=True, slots=True)
class Listed:
    """A version: why it has no asset of its own (None where it has one), and the tables that it reads."""

    endpoint: Endpoint
    version: Version
    live_only: str | None
    reads: tuple[Table, ...]


def catalog(definitions: Definitions) -> tuple[Listed, ...]:
    """Every version of every endpoint that can serve. Asks neither ClickHouse nor the lake."""
    return tuple(
        listed(endpoint, version)
        for endpoint in definitions.endpoints.values()
        for version in endpoint.versions.values()
    )


def listed(endpoint: Endpoint, version: Version) -> Listed:
    """One version, as the catalog lists it."""
    try:
        plan_of(version)
    except NotMaterializable as why:
        return Listed(endpoint, version, str(why), tables(version.sql))
    return Listed(endpoint, version, None, tables(version.sql))
