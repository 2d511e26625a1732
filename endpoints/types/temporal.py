"""Dates and times: Date, Date32, DateTime, DateTime64."""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endpoints.types.family import Family, Form, Integers, Value, as_numbers, as_strings, expect_text, row
from endpoints.types.grammar import ClickHouseType, quote

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What DateTime64 can hold; ClickHouse does not keep to it everywhere.
_FIRST_SECOND = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp())
_LAST_SECOND = int(datetime(2299, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
_MOST_DAYS = 150_000  # all that Date32 is meant to hold
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal"})


class _IsoDates(dict[int | None, str | None]):
    """The text of a day by its number, made when first seen."""

    def __missing__(self, day: int | None) -> str | None:
        if len(self) > _MOST_DAYS:
            self.clear()
        self[day] = text = as_strings(pa.array([day], pa.int32()).view(pa.date32()))[0]
        return text


_ISO = _IsoDates()


@row
class Date(Family):
    """Date, Date32: ISO dates."""

    names = ("Date", "Date32")

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.date32()

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if pa.types.is_integer(array.type):
            array = array.cast(pa.int32())
        return array.cast(pa.date32())

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        days = array.view(pa.int32()) if pa.types.is_date32(array.type) else array
        return [_ISO[day] for day in as_numbers(days)]

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "format": "date"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> date:
        text = expect_text(raw, "a date")
        if not _DATE.fullmatch(text):
            raise ValueError("expected a date such as 2026-01-31")
        value = _calendar_date(text)
        least, greatest = self._range(t)
        if not least <= value <= greatest:
            raise ValueError(f"must be between {least} and {greatest}")
        return value

    def literal(self, t: ClickHouseType, value: date) -> str:
        if t.name == "Date32":
            return super().literal(t, value)
        # By its number: old servers read dates from 2106 on as 1970-01-01.
        return f"toDate(toUInt16({(value - _EPOCH.date()).days}))"

    def show(self, t: ClickHouseType, value: date) -> Any:
        return value.isoformat()

    def example(self, t: ClickHouseType) -> Value:
        return date(2026, 1, 1)

    def _range(self, t: ClickHouseType) -> tuple[date, date]:
        if t.name == "Date":
            return date(1970, 1, 1), date(2149, 6, 6)
        return date(1900, 1, 1), date(2299, 12, 31)


@row
class DateTime(Family):
    """DateTime, DateTime64: instants, written in ISO with the offset of the column's time zone."""

    names = ("DateTime", "DateTime64")

    def storage(self, t: ClickHouseType) -> pa.DataType:
        scale = _scale(t)
        return pa.timestamp("ms" if scale <= 3 else "us" if scale <= 6 else "ns", "UTC")

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if pa.types.is_integer(array.type):
            array = array.cast(pa.int64()).cast(pa.timestamp("s"))
        if array.type.tz is None:
            # Without a zone it is UTC by agreement: warehouses never give local clock readings.
            array = array.cast(pa.timestamp(array.type.unit, "UTC"))
        return array.cast(self.storage(t))

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        zone = t.timezone or form.timezone
        scale = _scale(t)
        length = 19 + (scale and scale + 1)
        if zone in _UTC_NAMES:
            local, offset = array.cast(pa.timestamp(array.type.unit)), "Z"
        else:
            local, offset = _local(array, zone)
        text = pc.utf8_slice_codeunits(pc.cast(local, pa.string()), 0, length)
        text = pc.utf8_replace_slice(text, 10, 11, "T")
        return pc.binary_join_element_wise(text, offset, "").to_pylist()  # type: ignore[no-any-return]

    def arrow(self, t: ClickHouseType, timezone: str) -> pa.DataType:
        return pa.timestamp(self.storage(t).unit, t.timezone or timezone)

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        return array.cast(self.arrow(t, form.timezone))

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> datetime:
        text = expect_text(raw, "a time")
        match = _MOMENT.fullmatch(text)
        if match is None:
            hint = "; in a URL write + as %2B" if re.search(r" \d\d:?\d\d$", text) and "T" in text else ""
            raise ValueError(f"expected an ISO time such as 2026-01-31T14:30:00Z{hint}")
        day, clock, seconds, fraction, offset = match.groups()
        if len((fraction or "").rstrip("0")) > min(_scale(t), 6):
            raise ValueError(f"must have at most {min(_scale(t), 6)} digits of fractional seconds")
        try:
            local = datetime.fromisoformat(
                f"{day}T{clock or '00:00'}:{seconds or '00'}.{(fraction or '0')[:6]:0<6}"
            )
        except ValueError:
            raise ValueError(f"{text!r} is not on the calendar or the clock") from None
        value = _instant(local, offset, t.timezone or timezone)
        least, greatest = self._range(t)
        if not least <= value <= greatest:
            raise ValueError(f"must be between {least:%Y-%m-%dT%H:%M:%SZ} and {greatest:%Y-%m-%dT%H:%M:%SZ}")
        return value

    def render(self, t: ClickHouseType, value: datetime) -> str:
        """Seconds since 1970: the one text for an instant whatever the zone, also when clocks go back."""
        micros = (value - _EPOCH) // timedelta(microseconds=1)
        seconds, rest = divmod(abs(micros), 1_000_000)
        scale = _scale(t)
        fraction = f".{rest:06}".ljust(scale + 1, "0")[: scale + 1] if scale else ""
        # ClickHouse takes short numbers for the beginning of a calendar date.
        return f"{'-' if micros < 0 else ''}{seconds:010}{fraction}"

    def literal(self, t: ClickHouseType, value: datetime) -> str:
        zone = f", {quote(t.timezone)}" if t.timezone else ""
        if t.name == "DateTime":
            return f"toDateTime({(value - _EPOCH) // timedelta(seconds=1)}{zone})"
        # By way of a decimal: text would be read on the server's clock.
        scale = _scale(t)
        return f"toDateTime64(toDecimal128('{self.render(t, value)}', {scale}), {scale}{zone})"

    def show(self, t: ClickHouseType, value: datetime) -> Any:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def example(self, t: ClickHouseType) -> Value:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def _range(self, t: ClickHouseType) -> tuple[datetime, datetime]:
        if t.name == "DateTime":
            return _EPOCH, _EPOCH + timedelta(seconds=2**32 - 1)
        # Nanoseconds since 1970 end in 2262, in ClickHouse's Arrow and Parquet as well.
        short, long = datetime(2262, 4, 11, tzinfo=UTC), datetime(2299, 12, 31, 23, 59, 59, 999999, UTC)
        last = short if _scale(t) > 6 else long
        return datetime(1900, 1, 1, tzinfo=UTC), last


def _scale(t: ClickHouseType) -> int:
    return t.numbers[0] if t.name == "DateTime64" else 0


def _calendar_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is not on the calendar") from None


def _instant(local: datetime, offset: str | None, zone: str) -> datetime:
    """The instant of a clock reading, in UTC.

    Of two instants with the same reading, when clocks go back, it is the first; a reading that
    clocks skip is refused. Both as PEP 495 has it.
    """
    if offset == "Z":
        return local.replace(tzinfo=UTC)
    if offset is not None:
        hours, minutes = int(offset[1:3]), int(offset[-2:])
        if hours > 23 or minutes > 59:
            raise ValueError(f"{offset} is not an offset from UTC")
        ahead = timedelta(hours=hours, minutes=minutes)
        try:
            return local.replace(tzinfo=UTC) - (ahead if offset[0] == "+" else -ahead)
        except OverflowError:
            raise ValueError("is out of range") from None
    try:
        value = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        back = value.astimezone(ZoneInfo(zone))
    except OverflowError:
        raise ValueError("is out of range") from None
    if back.replace(tzinfo=None) != local:
        raise ValueError(f"{local} does not exist in {zone}: clocks skip it")
    return value


def _local(array: pa.Array, zone: str) -> tuple[pa.Array, pa.Array]:
    """Clock readings in `zone`, and their offsets as text such as +01:00.

    By Python's time zones: Arrow's own forget daylight saving time from 2038 on.
    """
    units = _UNITS[array.type.unit]
    instants = pc.fill_null(array.cast(pa.int64()), 0).to_numpy()
    seconds = np.clip(instants // units, _FIRST_SECOND, _LAST_SECOND)
    first, last = (_year(int(n)) for n in (seconds.min(initial=0), seconds.max(initial=0)))
    spans = [span for year in range(first, last + 1) for span in _offsets(zone, year)]
    place = np.searchsorted([start for start, _ in spans], seconds, side="right") - 1
    minutes = np.array([minutes for _, minutes in spans])
    texts = pa.array([f"{'-' if m < 0 else '+'}{abs(m) // 60:02}:{abs(m) % 60:02}" for _, m in spans])
    local = pa.array(instants + minutes[place] * 60 * units, pa.timestamp(array.type.unit))
    return pc.if_else(array.is_valid(), local, None), texts.take(pa.array(place))


def _year(second: int) -> int:
    return datetime.fromtimestamp(second, UTC).year


@lru_cache(maxsize=4096)
def _offsets(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """The offsets from UTC within a year: from which second since 1970 on, how many minutes ahead.

    ISO offsets have no seconds: those of local mean times, before about 1930, are cut off.
    """
    rules = ZoneInfo(zone)

    def ahead(second: int) -> int:
        offset = datetime.fromtimestamp(second, rules).utcoffset()
        assert offset is not None
        return int(offset.total_seconds() / 60)

    start, end = (int(datetime(y, 1, 1, tzinfo=UTC).timestamp()) for y in (year, year + 1))
    found = [(start, ahead(start))]
    for day in range(start, end, 86400):
        if ahead(min(day + 86400, end - 1)) != found[-1][1]:
            change = bisect_left(range(day, day + 86400), True, key=lambda s: ahead(s) != found[-1][1])
            found.append((day + change, ahead(day + change)))
    return tuple(found)
