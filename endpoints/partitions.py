"""Time partitions: their keys, and the instants at which each begins and ends.

Days, weeks (from Monday) and months begin at a midnight of the partitions' time zone, hours at a full hour of
it. Windows are half open, `start <= t < end`, and leave no gaps: a day on which clocks change has 23 or 25
hours, and each of the two hours that are called 02:00 in autumn is a window of its own. Keys are those
that Dagster gives the same partitions, so that both planes call them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
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
    if partitions.start is None:
        raise ValueError("partitions by value have no windows")
    return list(_until(partitions, partitions.start, now))


def keys(partitions: Partitions | None, now: datetime) -> list[str] | None:
    """The key of every partition that there is at `now`; None for an asset without partitions."""
    if partitions is None:
        return None
    return [w.key for w in windows(partitions, now)] if partitions.start else list(partitions.values)


def window(partitions: Partitions, at: datetime) -> Window:
    """The window that the instant `at` falls into, without regard to `start` and `end`."""
    zone = ZoneInfo(partitions.timezone)
    start, following = _EDGES[partitions.by](at, zone)
    return Window(_key(partitions.by, start, zone), start, following)


def window_of(partitions: Partitions, key: str, now: datetime) -> Window | None:
    """The window that `key` names, if it is one of `windows(partitions, now)`."""
    if partitions.start is None:
        return None
    try:
        at = _instant(partitions, key)
    except ValueError:
        return None
    if not partitions.start <= at <= now or (partitions.end is not None and at >= partitions.end):
        return None
    found = window(partitions, at)
    return found if found.key == key else None


def left_refresh(partitions: Partitions, of: Window) -> datetime:
    """When `of` stopped being one of the last `refresh` windows: from then on it is closed."""
    last = of
    for _ in range(max(partitions.refresh, 1) - 1):
        last = window(partitions, last.end)
    return last.end


def _until(partitions: Partitions, start: datetime, now: datetime) -> Iterator[Window]:
    edge = start
    while edge <= now and (partitions.end is None or edge < partitions.end):
        current = window(partitions, edge)
        yield current
        edge = current.end


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


def _instant(partitions: Partitions, key: str) -> datetime:
    """When the window called `key` begins; ValueError where none can be called so."""
    if len(key) > len("2026-10-25-02:00"):
        return datetime.strptime(key, f"{_HOUR_KEY}%z")
    local = datetime.strptime(key, _HOUR_KEY if partitions.by == "hour" else _DAY_KEY)
    return local.replace(tzinfo=ZoneInfo(partitions.timezone)).astimezone(UTC)


def _key(by: str, start: datetime, zone: ZoneInfo) -> str:
    local = start.astimezone(zone)
    if by != "hour":
        return local.strftime(_DAY_KEY)
    # The second of two hours with one name carries its offset, as Dagster writes it.
    return local.strftime(f"{_HOUR_KEY}%z" if local.fold else _HOUR_KEY)
