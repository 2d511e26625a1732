"""What a definition is once it has been read: frozen, typed, checked.

Everything here is true of every loaded definition: `load.py` reports a Problem instead of building one that
is not.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from endpoints.definition.defaults import Default
from endpoints.definition.sources import Sources
from endpoints.errors import EndpointsError, Problem
from endpoints.types import ClickHouseType, Value

_LONGEST_NAME: Final = 128
LIVE_REASONS: Final = frozenset({"missing", "stale", "failed", "breached"})


class UnknownEndpoint(EndpointsError):
    """No endpoint, or no version, of that name. `near` holds close names, best first."""

    def __init__(self, message: str, near: tuple[str, ...] = ()) -> None:
        self.near = near
        super().__init__(f"{message} Did you mean {' or '.join(near)}?" if near else message)


class BrokenEndpoint(EndpointsError):
    """The endpoint is there, but its files are wrong; `problems` are for its author, never for callers."""

    def __init__(self, name: str, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(f"The definition of {name} is broken; run `endpoints validate`.")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: name and type from the SQL, the rest from `variables:` in endpoint.yaml.

    `min`, `max`, `enum` and `example` are values of `type`. `line` is where the SQL first uses it.
    """

    name: str
    type: ClickHouseType
    required: bool = True
    optional: bool = False
    default: Default | None = None
    description: str | None = None
    example: Value = None
    pattern: str | None = None
    enum: tuple[Value, ...] | None = None
    min: Value = None
    max: Value = None
    max_length: int | None = None
    private: bool = False
    bucket: str | None = None
    line: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost. `max_memory` is in bytes; `rate` is as written, `600/minute`."""

    timeout: timedelta = timedelta(seconds=10)
    max_rows: int = 50_000
    max_memory: int | None = None
    rate: str | None = None
    max_asset_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Partitions:
    """How an asset is sliced: `by` time (hour, day, week, month) or by `list`, whose `values` are then given.

    `start` and `end` are UTC instants of midnights (or hours) in `timezone`, on an edge of `by`; `end` is
    exclusive. They bound the live query too. `refresh` counts the newest slices that are recomputed.
    """

    column: str
    by: str
    start: datetime | None = None
    end: datetime | None = None
    timezone: str = "UTC"
    refresh: int = 1
    table: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Materialize:
    """`schedule` as written; `cron` its five fields (None: on demand). `paused`: schedules leave it alone."""

    schedule: str | None
    cron: str | None
    partitions: Partitions | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class ColumnContract:
    """What one result column must satisfy. Bounds and sets are values of `type` where it is given."""

    type: str | None = None
    nullable: bool | None = None
    ge: Value = None
    gt: Value = None
    le: Value = None
    lt: Value = None
    isin: tuple[Value, ...] | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Contract:
    """What an asset must satisfy to be published.

    `unique` holds per set of variable values; rows are of the whole asset.
    """

    columns: Mapping[str, ColumnContract] = field(default_factory=dict)
    unique: tuple[str, ...] = ()
    rows_min: int | None = None
    rows_max: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A query that must give no rows before new ones are published.

    `over_asset`: it reads the new rows, as the table `asset`; else the warehouse. `severity`: `error` stops
    publishing, `warn` is only shown.
    """

    name: str
    sql: str
    severity: str
    description: str | None
    over_asset: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an endpoint: a query, its variables and its promises.

    `variables` are in the order of their first use in `sql`. `fingerprint` covers what decides the stored
    rows; `lock_parts` and `lock_fingerprint` what `endpoints lock` freezes. Dates are UTC. `line` is the
    version's in endpoint.yaml. `stale_while_revalidate`: zero where callers wait for a live run.
    """

    endpoint: str
    number: int
    sql: str
    sql_file: Path
    variables: Mapping[str, Variable]
    freshness: timedelta
    cache: timedelta
    live_when: frozenset[str]
    materialize: Materialize | None
    contract: Contract | None
    limits: Limits
    deprecated: date | None
    sunset: date | None
    public: bool
    clock: str | None
    description: str | None
    fingerprint: str
    lock_parts: Mapping[str, str]
    lock_fingerprint: str
    line: int = 1
    checks: tuple[Check, ...] = ()
    stale_while_revalidate: timedelta = timedelta(0)

    @property
    def key(self) -> str:
        """`name@number`, as commands take it."""
        return f"{self.endpoint}@{self.number}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A name and its versions; `current` is what callers get who name none.

    `alerts` names the routes of its alerts; None: those without a name.
    """

    name: str
    description: str | None
    owner: str | None
    tags: tuple[str, ...]
    current: int
    versions: Mapping[int, Version]
    folder: Path
    alerts: tuple[str, ...] | None = None

    @property
    def current_version(self) -> Version:
        """The version of callers who name none."""
        return self.versions[self.current]


@dataclass(frozen=True, slots=True)
class Definitions:
    """All endpoints of a folder. `broken` names each endpoint with Problems, by its folder's name.

    After a reload an endpoint can be in both: its last good form serves on while its files are broken.
    `general` holds problems of no single endpoint (a folder that is not there); `sources` what sources.yaml
    says of the tables they read.
    """

    endpoints: Mapping[str, Endpoint]
    broken: Mapping[str, tuple[Problem, ...]]
    general: tuple[Problem, ...] = ()
    sources: Sources = field(default_factory=Sources)
    _folded: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folded", {name.lower(): name for name in (*self.broken, *self.endpoints)})

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem, by file and line."""
        found = [*self.general, *self.sources.problems, *(p for group in self.broken.values() for p in group)]
        return tuple(sorted(found, key=lambda p: (p.file, p.line)))

    @property
    def versions(self) -> Iterator[Version]:
        """Every version of every endpoint that can serve."""
        return (version for endpoint in self.endpoints.values() for version in endpoint.versions.values())

    def find(self, name: str) -> Endpoint:
        """The endpoint of that name, without regard to case.

        UnknownEndpoint or BrokenEndpoint if it cannot serve.
        """
        known = self._folded.get(name.lower())
        if known is None:
            raise UnknownEndpoint(f"There is no endpoint {name!r}.", self.near(name))
        if known not in self.endpoints:
            raise BrokenEndpoint(known, self.broken[known])
        return self.endpoints[known]

    def near(self, name: str) -> tuple[str, ...]:
        """Up to three names like this one, best first."""
        if len(name) > _LONGEST_NAME:
            return ()
        close = difflib.get_close_matches(name.lower(), self._folded, n=3)
        return tuple(self._folded[folded] for folded in close)

    def version(self, key: str) -> Version:
        """The version that `name@2`, or `name` for the current one, names.

        UnknownEndpoint, BrokenEndpoint.
        """
        name, at, number = key.partition("@")
        endpoint = self.find(name)
        if not at:
            return endpoint.current_version
        if not number.isdecimal() or int(number) not in endpoint.versions:
            known = ", ".join(map(str, sorted(endpoint.versions)))
            raise UnknownEndpoint(f"{endpoint.name} has no version {number!r}; it has {known}.")
        return endpoint.versions[int(number)]
