"""What the code location lists: each version with what its text alone tells, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from endpoints.definition import Definitions, Endpoint, Source, Sources, Version
from endpoints.query.tables import Table, tables
from orchestration.making import NotMaterializable, plan_of
from orchestration.verdicts import Verdicts


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


def catalog(definitions: Definitions, verdicts: Verdicts | None = None) -> tuple[Listed, ...]:
    """Every version of every endpoint that can serve. Asks neither ClickHouse nor the lake.

    `verdicts`: what was found of their plans before.
    """
    return tuple(
        listed(endpoint, version, definitions.sources, verdicts)
        for endpoint in definitions.endpoints.values()
        for version in endpoint.versions.values()
    )


def listed(
    endpoint: Endpoint, version: Version, sources: Sources, verdicts: Verdicts | None = None
) -> Listed:
    """One version, as the catalog lists it."""
    reads = tables(version.sql)
    plan = partial(_live_only, version)
    live_only = plan() if verdicts is None else verdicts.of(version, plan)
    return Listed(endpoint, version, live_only, reads, sources.of(reads))


def _live_only(version: Version) -> str | None:
    """Why the version has no asset; None where it has one."""
    try:
        plan_of(version)
    except NotMaterializable as why:
        return str(why)
    return None
