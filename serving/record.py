"""What is kept of every run: one small immutable record, handed on when the answer has been sent."""

from __future__ import annotations

from typing import Protocol

from endpoints.usage import RunRecord


class Records(Protocol):
    """Where records go. Called on the event loop for every run: it must neither wait nor fail."""

    def record(self, run: RunRecord) -> None: ...
    def again(self, run: RunRecord, at: float, duration: float) -> None:
        """Record another run like this one, in all but when it was and how long it took."""
