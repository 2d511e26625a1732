"""What a caller may ask for, and how often: the seam between the path of a request and its limits."""

from __future__ import annotations

from typing import Protocol

from serving.auth import Principal
from serving.loaded import Served
from serving.request import Refresh

RawHeaders = tuple[tuple[bytes, bytes], ...]


class Limits(Protocol):
    """Rates, checked in memory on the event loop: neither method may wait."""

    def admit(self, principal: Principal, served: Served, refresh: Refresh) -> RawHeaders:
        """Pay for one request. The headers that its answer carries, names in lower case.

        Raises HttpProblem 429, whose `headers` are then the answer's.
        """

    def pay_live(self, principal: Principal, served: Served) -> None:
        """Pay for starting one query in ClickHouse. Raises HttpProblem 429."""


class Unlimited:
    """Everyone may, always."""

    def admit(self, principal: Principal, served: Served, refresh: Refresh) -> RawHeaders:
        return ()

    def pay_live(self, principal: Principal, served: Served) -> None:
        return None
