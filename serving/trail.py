"""What is known of a run while it goes on, for its record and for `Server-Timing`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from time import perf_counter

from endpoints.usage import RunRecord
from serving.answer import Facts
from serving.auth import Principal


@dataclass(slots=True)
class Trail:
    """`endpoint` and `version` are what the caller named, if there is such and the key may know of it."""

    at: float = field(default_factory=time.time)
    begun: float = field(default_factory=perf_counter)
    principal: Principal | None = None
    endpoint: str = ""
    version: int | None = None
    facts: Facts | None = None
    cached: bool = False
    rows: int = 0
    bytes: int = 0
    timings: dict[str, float] = field(default_factory=dict)

    def failed(self) -> None:
        """It ends without rows, wherever they were to come from."""
        self.facts, self.cached, self.rows = None, False, 0

    def record(self, principal: Principal, status: int) -> RunRecord:
        """The record of the run, which has ended."""
        facts = self.facts
        return RunRecord(
            self.at,
            self.endpoint,
            self.version,
            principal.id,
            facts.source if facts else None,
            facts.reason if facts else None,
            status,
            perf_counter() - self.begun,
            self.rows,
            self.bytes,
            self.cached,
        )
