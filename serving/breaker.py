"""Circuit breakers: who has failed several times in a row is left alone for a while, then tried by one.

    closed ──(failures in a row)──▶ open ──(rest)──▶ half open ──(one probe succeeds)──▶ closed
                                     ▲                  │
                                     └─(it fails: twice the rest)

One for the warehouse counts lost connections; one for each version counts its timeouts. The pattern is
Nygard's ("Release It!").
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from endpoints.errors import QueryCancelled, QueryTimeout, WarehouseUnavailable
from serving.problems import BreakerOpen, LiveQueueFull

LOST_CONNECTIONS, TIMEOUTS = 5, 3  # in a row
WAREHOUSE_RESTS, VERSION_RESTS = 2.0, 15.0  # seconds, the first time
MOST_REST = 60.0

State = Literal["closed", "open", "half open"]


@dataclass(slots=True)
class Breaker:
    """One breaker. `most` failures in a row open it for `first_rest` seconds."""

    most: int
    first_rest: float
    monotonic: Callable[[], float] = time.monotonic
    failures: int = 0
    rest: float = 0.0
    until: float = 0.0
    probing: bool = False

    @property
    def state(self) -> State:
        if self.failures < self.most:
            return "closed"
        return "open" if self.monotonic() < self.until else "half open"

    def require(self) -> None:
        """Raises BreakerOpen, with the seconds until the next try, where nobody may try now."""
        state = self.state
        if state == "open":
            raise BreakerOpen(math.ceil(self.until - self.monotonic()))
        if state == "half open" and self.probing:
            raise BreakerOpen(1)

    def enter(self) -> None:
        """Somebody tries, who is to tell of the outcome."""
        self.require()
        self.probing = self.state == "half open"

    def good(self) -> None:
        self.failures, self.rest, self.probing = 0, 0.0, False

    def bad(self) -> None:
        self.failures, self.probing = self.failures + 1, False
        if self.failures >= self.most:
            self.rest = min(MOST_REST, self.rest * 2 or self.first_rest)
            self.until = self.monotonic() + self.rest

    def untold(self) -> None:
        """The try ended before anything could be learnt."""
        self.probing = False


class Breakers:
    """The warehouse's, and those of versions that have timed out."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.warehouse = Breaker(LOST_CONNECTIONS, WAREHOUSE_RESTS, monotonic)
        self._versions: dict[str, Breaker] = {}

    def version(self, key: str) -> Breaker:
        return self._versions.get(key) or Breaker(TIMEOUTS, VERSION_RESTS, self._monotonic)

    @property
    def open(self) -> int:
        """How many are not closed."""
        return sum(one.state != "closed" for one in (self.warehouse, *self._versions.values()))

    def require(self, key: str) -> None:
        """Raises BreakerOpen where no query of the version may start now."""
        self.version(key).require()
        self.warehouse.require()

    def enter(self, key: str) -> None:
        """A query of the version starts. Raises BreakerOpen."""
        self.require(key)
        self.version(key).enter()
        self.warehouse.enter()

    def ended(self, key: str, error: BaseException | None) -> None:
        """How the query has ended."""
        version = self.version(key)
        match error:
            case WarehouseUnavailable():
                self.warehouse.bad()
                version.untold()
            case QueryTimeout():
                self.warehouse.good()
                version.bad()
                self._versions[key] = version
            case QueryCancelled() | LiveQueueFull():
                self.warehouse.untold()
                version.untold()
            case _:
                self.warehouse.good()
                self._versions.pop(key, None)
