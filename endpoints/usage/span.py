"""From when to when: what people and callers write for it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

DAYS = 7  # that are looked at unless said otherwise
MOST_DAYS = 400


def parse_moment(text: str) -> datetime:
    """A date (its beginning), or a time with or without an offset; UTC. ValueError with what is expected."""
    try:
        if len(text) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("Must be a date or a time such as 2026-01-31T14:30Z.") from None


def check_span(since: datetime, until: datetime) -> None:
    """ValueError where it is none, or too long to be read at once."""
    if not timedelta() < until - since <= timedelta(days=MOST_DAYS):
        raise ValueError(f"Must be before the end, by at most {MOST_DAYS} days.")
