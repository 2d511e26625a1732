"""How new the tables are that a version reads, asked when its query begins.

A query over a table that nobody fills any more succeeds, and gives an asset that is fresh and wrong. So the
greatest timestamp of each table that `sources.yaml` declares is kept in the manifest with the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import pyarrow as pa

from endpoints.alerts.conditions import SOURCE_PREFIX
from endpoints.definition import Source
from endpoints.errors import UnsupportedType, WarehouseError
from endpoints.lake.manifest import CheckResult, PartitionEntry
from endpoints.units import show_duration
from endpoints.warehouse.protocol import Caps, Statement, Warehouse

_CAPS: Final = Caps(timeout=timedelta(seconds=30))
_CLOCKS_DIFFER: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Upstream:
    """`newest`: the newest row of the tables, of several the one whose newest row is oldest."""

    newest: datetime | None = None
    checks: tuple[CheckResult, ...] = ()

    def mark(self, entry: PartitionEntry) -> PartitionEntry:
        """The entry with what is known of its sources."""
        return replace(entry, source_max=self.newest, checks=entry.checks + self.checks)


def ask_sources(sources: Iterable[Source], warehouse: Warehouse, now: datetime) -> Upstream:
    """The newest row of each table with a timestamp column. `now` is the warehouse's clock.

    A table that cannot be asked fails its check, never the run.
    """
    newest: list[datetime] = []
    checks: list[CheckResult] = []
    for source in sources:
        if source.timestamp is None:
            continue
        name = f"{SOURCE_PREFIX}{source.table}"
        try:
            found = _newest(source, warehouse)
        except (WarehouseError, UnsupportedType) as error:
            checks.append(CheckResult(name, False, f"could not be asked: {type(error).__name__}"))
            continue
        except ValueError as error:
            checks.append(CheckResult(name, False, str(error)))
            continue
        newest += [found] if found else []
        checks.append(CheckResult(name, *_judged(source, found, now)))
    return Upstream(min(newest, default=None), tuple(checks))


def _judged(source: Source, newest: datetime | None, now: datetime) -> tuple[bool, str]:
    if newest is None:
        return source.freshness is None, "has no rows"
    if newest > now + _CLOCKS_DIFFER:
        return source.freshness is None, f"newest row {_shown(newest)}, which is still to come"
    if source.freshness is None:
        return True, f"newest row {_shown(newest)}"
    passed = now - newest <= source.freshness
    return passed, f"newest row {_shown(newest)}, {show_duration(source.freshness)} allowed"


def _newest(source: Source, warehouse: Warehouse) -> datetime | None:
    """The greatest timestamp; None of a table without rows. ValueError where the column holds no times."""
    with warehouse.run(Statement(source.newest_sql), _CAPS) as result:
        [row] = [batch for batch in result if batch.num_rows]
    newest, rows = row.column("newest"), row.column("rows")[0].as_py()
    if pa.types.is_timestamp(newest.type):  # Python's times have no nanoseconds
        newest = newest.cast(pa.timestamp("us", newest.type.tz), safe=False)
    return _instant(newest[0].as_py(), source) if rows and newest[0].is_valid else None


def _instant(value: object, source: Source) -> datetime:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    raise ValueError(f"{source.timestamp} holds no dates or times")


def _shown(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
