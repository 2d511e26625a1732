"""Buckets of a time: what is stored for `expr >= {v}` and `expr < {v}`, and which values they answer exactly.

What is stored is `b(x)`, the start of x's bucket in the column's zone. A value v may be compared with it
instead of with x if no bucket holds times on both sides of v: `b(x) <= x` for every x, which `least` sees to
also where ClickHouse's functions leave their type's range, and `b(x) >= v` for every `x >= v`, which holds
where v starts a bucket and the zone's clocks are never moved by less than whole buckets.

The rules of zones are data, of which the server, its successor and this machine may have different
editions. So nothing depends on when clocks are moved: where that decides, `has_steady` says no.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from endpoints.types import ClickHouseType, Value

OPERATORS: Final = frozenset({">=", "<"})
"""With a bound on an edge these tell whole buckets apart."""

_BEYOND: Final = frozenset({"<=", ">"})
"""These do where the next value that the type has is on an edge: `x <= v` is `x < v + 1`."""

_CLOCK: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
_DAYS_IN: Final = {"week": "toDayOfWeek", "month": "toDayOfMonth"}
_FIRST, _LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2106, 1, 1, tzinfo=UTC)
_STEP = timedelta(days=7)  # clocks that are moved stay so for longer


def bucket_sql(bucket: str, type_: ClickHouseType, text: str) -> str:
    """The start of the bucket of `text`, an expression of that type, in the same type and zone."""
    if _is_day(type_):
        start = f"({text})"
    else:
        start = f"dateTrunc('{bucket if bucket in _CLOCK else 'day'}', ({text}))"
    if bucket in _DAYS_IN:
        start += f" - toIntervalDay({_DAYS_IN[bucket]}({text}) - 1)"
    return f"least(({text}), {start})"


def answers(operator: str, type_: ClickHouseType) -> bool:
    """Some bounds of this type tell whole buckets apart by the operator."""
    whole = _is_day(type_) or type_.base.name == "DateTime"
    return operator in OPERATORS or (operator in _BEYOND and whole)


def edge_of(operator: str, value: Value) -> Value:
    """What must start a bucket for `x operator value` to be answered: the value, or the next one."""
    if operator not in _BEYOND or not isinstance(value, date):
        return value
    try:
        return value + (timedelta(seconds=1) if isinstance(value, datetime) else timedelta(days=1))
    except OverflowError:
        return value


def is_bucketed(type_: ClickHouseType) -> bool:
    """Buckets are made of this type: Date, Date32, DateTime, DateTime64."""
    return _is_day(type_) or type_.base.name in ("DateTime", "DateTime64")


def has_steady(bucket: str, zone: str) -> bool:
    """Where buckets start in that zone depends on no rule about moving clocks, from 1990 on."""
    length = _CLOCK.get(bucket)
    offsets = _offsets(zone)
    return all(not (one - offsets[0]) % length if length else one == offsets[0] for one in offsets)


def has_whole_hours(zone: str) -> bool:
    """Full hours of that zone are full hours of UTC, from 1990 on."""
    return all(not offset % timedelta(hours=1) for offset in _offsets(zone))


def is_edge(bucket: str, value: Value, zone: str) -> bool:
    """The value starts a bucket, by the clocks of `zone`, and this is proved. NULL compares with nothing."""
    if value is None:
        return True
    if not isinstance(value, datetime):
        assert isinstance(value, date)
        return _starts(bucket, value)
    if not _FIRST <= value <= _LAST or not has_steady(bucket, zone):
        return False
    clock = value.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    if bucket in _CLOCK:
        return not (clock - datetime.min) % _CLOCK[bucket]
    return clock.time() == time.min and _starts(bucket, clock.date())


def _is_day(type_: ClickHouseType) -> bool:
    return type_.base.name in ("Date", "Date32")


def _starts(bucket: str, day: date) -> bool:
    return (bucket != "week" or day.weekday() == 0) and (bucket != "month" or day.day == 1)


@lru_cache(maxsize=64)
def _offsets(zone: str) -> tuple[timedelta, ...]:
    """The offsets from UTC that the zone's clocks have had since 1990, or are to have."""
    rules = ZoneInfo(zone)
    moments = (_FIRST + _STEP * number for number in range((_LAST - _FIRST) // _STEP))
    return tuple({moment.astimezone(rules).utcoffset() or timedelta(0) for moment in moments})
