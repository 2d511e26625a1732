"""The time that requests are answered at: one for all that come within the same second.

What an answer says of time, it says in whole seconds (ages, what is left of a promise). Deciding once a
second makes it the same for everyone who asks within that second, so that a prepared answer is the very one
that would be made anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class Moment(NamedTuple):
    """A second of this process: `tick` counts them on a clock that never goes back, `now` is the wall's."""

    tick: int
    now: datetime


class Clock:
    """Gives the moment. `now` is at most a second behind the wall, which may be set forward and back."""

    def __init__(self, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._wall = wall
        self._moment = Moment(-1, datetime.min.replace(tzinfo=UTC))

    def __call__(self) -> Moment:
        tick = int(time.monotonic())
        if self._moment.tick != tick:
            self._moment = Moment(tick, self._wall())
        return self._moment
