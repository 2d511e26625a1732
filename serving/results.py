"""Answers' bytes that may be sent again, within a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from serving.answer import Encoded

OVERHEAD = 1024  # bytes that an entry takes beside its body, about


class Results:
    """Encoded answers, the least recently used dropped past `budget` bytes. Belongs to the event loop.

    An answer's key holds all that decides its bytes, its snapshot or live run too: nothing here expires, it
    is only no longer asked for.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self.held_bytes = budget, 0
        self._kept: OrderedDict[Hashable, Encoded] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Encoded | None:
        """The answer, which is now the last to go."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, answer: Encoded) -> None:
        """Keep an answer. One that would take more than a quarter of the budget is not kept."""
        size = len(answer.body) + OVERHEAD
        if key in self._kept or size * 4 > self._budget:
            return
        self._kept[key] = answer
        self.held_bytes += size
        while self.held_bytes > self._budget:
            _, dropped = self._kept.popitem(last=False)
            self.held_bytes -= len(dropped.body) + OVERHEAD
