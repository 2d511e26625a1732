"""Schedules as people write them, as five-field cron lines: the one place that knows both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final

from croniter import CroniterError, croniter

CADENCES: Final = {
    "hourly": "0 * * * *",
    **{f"{hours}h": f"0 */{hours} * * *" for hours in (2, 3, 4, 6, 8, 12)},
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}
_FIX: Final = "Write hourly, 6h, daily, weekly or five cron fields, as in `30 6 * * 1-5`"
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def parse_schedule(text: str) -> str:
    """The cron line that `text` means, in UTC.

    ValueError with one sentence if it means none, or never comes.
    """
    written = " ".join(text.split())
    cron = CADENCES.get(written, written)
    if len(cron.split(" ")) != 5:
        raise ValueError(f"{text!r} is not a schedule. {_FIX}")
    try:
        croniter(cron, _EPOCH).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        raise ValueError(f"{text!r} is not a schedule that ever comes. {_FIX}") from error
    return cron


@lru_cache(maxsize=1024)
def longest_gap(cron: str) -> timedelta:
    """The longest time between two runs of a cron line, over its next fifty: a weekend for `0 9 * * 1-5`."""
    ticks: list[datetime] = list(islice(croniter(cron, _EPOCH).all_next(datetime), 50))
    return max(later - earlier for earlier, later in pairwise(ticks))
