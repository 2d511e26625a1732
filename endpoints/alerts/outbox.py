"""Messages on their way: kept until they are delivered, tried again later and later, given up after a day."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from endpoints.alerts.message import Message

LEASE: Final = timedelta(minutes=2)
"""How long whoever has claimed a message may take to send it; killed meanwhile, somebody else does."""
FIRST_RETRY: Final = timedelta(minutes=1)
LONGEST_RETRY: Final = timedelta(hours=1)
GIVEN_UP_AFTER: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message and the targets that have not had it. `next_try`: before it, leave it alone."""

    id: str
    message: Message
    targets: tuple[str, ...]
    made: datetime
    next_try: datetime
    tries: int = 0


def parcel(message: Message, targets: Sequence[str], now: datetime) -> Parcel:
    """A new one, to be sent at once."""
    return Parcel(secrets.token_hex(8), message, tuple(targets), now, now)


def claimed(parcels: Sequence[Parcel], now: datetime) -> tuple[tuple[Parcel, ...], tuple[Parcel, ...]]:
    """All of them, with those that are due leased; and those that are due."""
    due = {
        one.id: replace(one, tries=one.tries + 1, next_try=now + LEASE)
        for one in parcels
        if one.next_try <= now
    }
    return tuple(due.get(one.id, one) for one in parcels), tuple(due.values())


def settled(
    parcels: Sequence[Parcel], sent: Parcel, left: Collection[str], tried: bool, now: datetime
) -> tuple[Parcel, ...]:
    """The parcels after one was sent: gone, or with the targets that are `left`, to be tried again.

    Not `tried`: there was no time for it, so it is due at once.
    """
    kept = []
    for one in parcels:
        if one.id != sent.id:
            kept.append(one)
        elif left and not tried:
            kept.append(replace(one, tries=one.tries - 1, next_try=now))
        elif left and now - one.made < GIVEN_UP_AFTER:
            wait = min(FIRST_RETRY * 2 ** (one.tries - 1), LONGEST_RETRY)
            kept.append(replace(one, targets=tuple(left), next_try=now + wait))
    return tuple(kept)
