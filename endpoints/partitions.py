"""Time partitions: their keys, and the instants at which each begins and ends.

Days, weeks (from Monday) and months begin at a midnight of the partitions' time zone, hours at a full hour of
it. Windows are half open, `start <= t < end`, and leave no gaps: a day on which clocks change has 23 or 25
hours, and each of the two hours that are called 02:00 in autumn is a window of its own. Keys are those
that Dagster gives the same partitions, so that both planes call them alike.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from endpoints.definition import Partitions

_DAY_KEY = "%Y-%m-%d"
_HOUR_KEY = "%Y-%m-%d-%H:%M"


@dataclass(frozen=True, slots=True)
class Window:
    """One partition's key and its instants in UTC, `end` exclusive."""

    key: str
    start: datetime
    end: datetime


def windows(partitions: Partitions, now: datetime) -> list[Window]:
    """Every window that has begun by `now`, oldest first, the current one included; none past `end`.

    ValueError for a list of values: those have no windows.
    """
    line = timeline(partitions)
    return line.windows[: line.begun(now)]


def keys(partitions: Partitions | None, now: datetime) -> list[str] | None:
    """The key of every partition that there is at `now`; None for an asset without partitions."""
    if partitions is None:
        return None
    return [w.key for w in windows(partitions, now)] if partitions.start else list(partitions.values)


class Timeline:
    """The windows of a version that have begun, each computed once: ten thousand of them take a while.

    Thread-safe. `windows` only grows; `begun` says how many of them count at a time.
    """

    def __init__(self, partitions: Partitions) -> None:
        if partitions.start is None:
            raise ValueError("partitions by value have no windows")
        self._partitions, self._edge = partitions, partitions.start
        self._lock = threading.Lock()
        self.windows: list[Window] = []
        self._starts: list[datetime] = []
        self._places: dict[str, int] = {}

    def begun(self, now: datetime) -> int:
        """How many windows have begun by `now`."""
        if self._edge <= now and not self._is_over():
            with self._lock:
                while self._edge <= now and not self._is_over():
                    self._add(window(self._partitions, self._edge))
        return bisect_right(self._starts, now)

    def find(self, key: str, now: datetime) -> Window | None:
        """The window of that key, if it has begun by `now`."""
        begun = self.begun(now)
        place = self._places.get(key)
        return self.windows[place] if place is not None and place < begun else None

    def following(self, of: Window, count: int) -> Window | None:
        """The window that many behind `of`, if both are known."""
        place = self._places.get(of.key)
        known = place is not None and place + count < len(self.windows)
        return self.windows[place + count] if place is not None and known else None

    def between(self, low: datetime | None, high: datetime | None, now: datetime) -> list[Window]:
        """The windows that have begun and hold some instant from `low` on and before `high`."""
        begun = self.begun(now)
        first = 0 if low is None else max(0, bisect_right(self._starts, low) - 1)
        if low is not None and first < begun and self.windows[first].end <= low:
            first += 1  # only behind the last window there is
        last = begun if high is None else min(begun, bisect_left(self._starts, high))
        return self.windows[first:last]

    def _is_over(self) -> bool:
        return self._partitions.end is not None and self._edge >= self._partitions.end

    def _add(self, found: Window) -> None:
        self._places[found.key] = len(self.windows)
        self.windows.append(found)
        self._starts.append(found.start)
        self._edge = found.end


@lru_cache(maxsize=4096)
def timeline(partitions: Partitions) -> Timeline:
    """The windows of these partitions. ValueError for a list of values."""
    return _timeline(replace(partitions, column="", table=None, refresh=1))


@lru_cache(maxsize=256)
def _timeline(partitions: Partitions) -> Timeline:
    """One for all versions that are sliced alike."""
    return Timeline(partitions)


def window(partitions: Partitions, at: datetime) -> Window:
    """The window that the instant `at` falls into, without regard to `start` and `end`."""
    zone = ZoneInfo(partitions.timezone)
    start, following = _EDGES[partitions.by](at, zone)
    return Window(_key(partitions.by, start, zone), start, following)


def window_of(partitions: Partitions, key: str, now: datetime) -> Window | None:
    """The window that `key` names, if it is one of `windows(partitions, now)`."""
    return None if partitions.start is None else timeline(partitions).find(key, now)


def left_refresh(partitions: Partitions, of: Window) -> datetime:
    """When `of` stopped being one of the last `refresh` windows: from then on it is closed."""
    later = timeline(partitions).following(of, max(partitions.refresh, 1)) if partitions.start else None
    if later is not None:
        return later.start
    last = of
    for _ in range(max(partitions.refresh, 1) - 1):
        last = window(partitions, last.end)
    return last.end


def _hour(at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Hours are counted on the time line, from an edge that the zone's clocks call full."""
    local = at.astimezone(zone)
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    start = at.astimezone(UTC) - into
    return start, start + timedelta(hours=1)


def _by_date(first: Callable[[date], date], following: Callable[[date], date]) -> _Edges:
    def edges(at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
        begin = first(at.astimezone(zone).date())
        return _midnight(begin, zone), _midnight(following(begin), zone)

    return edges


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """When the day begins there. A midnight that the clocks skip is the instant at which they skip it."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _next_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


_Edges = Callable[[datetime, ZoneInfo], tuple[datetime, datetime]]
_EDGES: dict[str, _Edges] = {
    "hour": _hour,
    "day": _by_date(lambda day: day, lambda day: day + timedelta(days=1)),
    "week": _by_date(lambda day: day - timedelta(days=day.weekday()), lambda day: day + timedelta(days=7)),
    "month": _by_date(lambda day: day.replace(day=1), _next_month),
}


def _key(by: str, start: datetime, zone: ZoneInfo) -> str:
    local = start.astimezone(zone)
    if by != "hour":
        return local.strftime(_DAY_KEY)
    # The second of two hours with one name carries its offset, as Dagster writes it.
    return local.strftime(f"{_HOUR_KEY}%z" if local.fold else _HOUR_KEY)
