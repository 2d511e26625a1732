"""Who calls a version: from what serving records under the lake's `_usage/`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from endpoints.lake.store import Store

RECENT: Final = timedelta(days=7)
"""How far back callers are looked for."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No usage has been recorded, or it cannot be read: nobody knows."""

    def __str__(self) -> str:
        return "not known"


@dataclass(frozen=True, slots=True)
class Callers:
    """The names of the keys that have called, most calls first, and all their calls within `RECENT`."""

    keys: tuple[str, ...]
    calls: int

    def __str__(self) -> str:
        if not self.keys:
            return f"nobody in the last {RECENT.days} days"
        more = f" and {len(self.keys) - 5} more" if len(self.keys) > 5 else ""
        return f"{', '.join(self.keys[:5])}{more} ({self.calls:,} calls in {RECENT.days} days)"


Known: TypeAlias = Callers | Unknown


def callers_of(store: Store, endpoint: str, version: int, now: datetime) -> Known:
    """Who has called the version within `RECENT` before `now`. Unknown while no usage is recorded."""
    return Unknown()
