"""Who calls a version: from the runs that serving records under the lake's `_usage/`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from endpoints.errors import StoreUnavailable
from endpoints.lake.store import Store

RECENT: Final = timedelta(days=7)
"""How far back callers are looked for."""
KEPT: Final = timedelta(minutes=15)
"""How long what was read is good: a week of runs is some hundred objects."""
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Unknown:
    """No usage at all has been recorded, or it cannot be read: nobody knows."""

    def __str__(self) -> str:
        return "not known"


@dataclass(frozen=True, slots=True)
class Callers:
    """How often each key has called within `RECENT`, most calls first."""

    keys: Mapping[str, int]

    def __str__(self) -> str:
        if not self.keys:
            return f"nobody in the last {RECENT.days} days"
        more = f" and {len(self.keys) - _NAMED} more" if len(self.keys) > _NAMED else ""
        calls = sum(self.keys.values())
        return f"{', '.join(list(self.keys)[:_NAMED])}{more} ({calls:,} calls in {RECENT.days} days)"


Known: TypeAlias = Callers | Unknown
_Counts: TypeAlias = Mapping[tuple[str, int], Counter[str]]


class CallerBook:
    """Everybody's callers, read when first asked for, an hour of runs in memory at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: tuple[datetime, _Counts] | None = None

    def of(self, endpoint: str, version: int, now: datetime) -> Known:
        """Who has called the version within `RECENT` before `now`."""
        if self._read is None or now - self._read[0] >= KEPT:
            try:
                self._read = now, self._count(now)
            except StoreUnavailable:
                return Unknown()
        counts = self._read[1]
        return (
            Callers(dict(counts.get((endpoint.lower(), version), Counter()).most_common()))
            if counts
            else Unknown()
        )

    def _count(self, now: datetime) -> _Counts:
        from endpoints.usage import read  # Polars takes a while, and most looks at the lake need none

        counts: dict[tuple[str, int], Counter[str]] = {}
        since = (now - RECENT).replace(minute=0, second=0, microsecond=0)  # files are by the hour
        while since < now:
            until = min(since + timedelta(hours=1), now)
            counted = read(self._store, since, until).group_by("endpoint", "version", "key_id").len()
            for endpoint, version, key, calls in counted.iter_rows():
                counts.setdefault((endpoint.lower(), version), Counter())[key] += calls
            since = until
        return counts
