"""Default values: literals, or moments relative to now (`today - 30d`, `now - 2h`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from endpoints.types import ClickHouseType, Value, parse_value

_RELATIVE = re.compile(r"(today|now)(?:\s*([+-])\s*(\d{1,6})\s*([mhdw]))?")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DATES = frozenset({"Date", "Date32"})
_MOMENTS = _DATES | {"DateTime", "DateTime64"}


@dataclass(frozen=True, slots=True)
class Default:
    """A default as its author wrote it: a scalar's text, a list of them, or None for NULL.

    `anchor` is `today` or `now` for a relative one, `offset` what is added to it: on the `calendar` if its
    author wrote days or weeks, on the clock if hours or minutes.
    """

    raw: object
    anchor: str | None = None
    offset: timedelta = timedelta()
    calendar: bool = True

    def resolve(self, now: datetime, timezone: str, type_: ClickHouseType) -> Value:
        """The value at `now` (aware). `timezone` is the server's, for types that name none.

        Calendar days are added on the calendar, so that `today - 30d` is a midnight on both sides of a
        change of clocks. ValueError if the value is outside the type.
        """
        if self.anchor is None:
            return _literal(type_, self.raw, timezone)
        base = type_.base
        zone = ZoneInfo(base.timezone or timezone)
        if self.anchor == "now" and not (self.calendar and self.offset):
            moment = (now + self.offset).astimezone(zone)
        else:
            local = now.astimezone(zone).replace(tzinfo=None)
            if self.anchor == "today":
                local = datetime(local.year, local.month, local.day)
            moment = (local + self.offset).replace(tzinfo=zone)
        if base.name in _DATES:
            return parse_value(type_, moment.date().isoformat(), timezone=timezone)
        instant = moment.astimezone(UTC)
        return parse_value(type_, instant.strftime("%Y-%m-%dT%H:%M:%SZ"), timezone=timezone)

    def __str__(self) -> str:
        return str(self.raw)


@lru_cache(maxsize=4096)
def _scalar(type_: ClickHouseType, raw: str | None, timezone: str) -> Value:
    return parse_value(type_, raw, timezone=timezone)


def _literal(type_: ClickHouseType, raw: object, timezone: str) -> Value:
    """A literal's value. Scalars, being nearly all of them, are parsed once."""
    if raw is None or isinstance(raw, str):
        return _scalar(type_, raw, timezone)
    return parse_value(type_, raw, timezone=timezone)


def is_moment(type_: ClickHouseType) -> bool:
    """Whether the type is a date or a time, Nullable or not, which may have relative defaults."""
    return type_.base.name in _MOMENTS


def parse_default(raw: object, type_: ClickHouseType) -> Default:
    """The default that `raw` (text, list or None) means for that type.

    ValueError with one sentence if it is none.
    """
    relative = _RELATIVE.fullmatch(raw.strip()) if isinstance(raw, str) and is_moment(type_) else None
    if relative is None:
        parse_value(type_, raw)
        return Default(raw)
    anchor, sign, count, unit = relative.groups()
    if count is None:
        return Default(raw, anchor)
    if unit in "mh" and type_.base.name in _DATES:
        raise ValueError(f"a {type_.base.name} moves by days (d) or weeks (w), not by {_UNITS[unit]}")
    offset = timedelta(**{_UNITS[unit]: int(count)})
    return Default(raw, anchor, -offset if sign == "-" else offset, unit in "dw")
