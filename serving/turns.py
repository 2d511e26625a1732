"""One run at a time begins, in the order in which they came.

A loop hands out all that has arrived at once. Were all of it worked on before the loop looks again, whoever
comes next would wait for the whole lot, and known answers with them; and who comes just after the look, as
the caller does who was answered last, would wait for two.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Between two turns the loop looks at its sockets. For one loop at a time."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None  # while a turn is taken
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait until it is one's turn, which lasts until one waits for something else."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._waiting.clear()  # of a loop that has ended
            loop.call_soon(self._next, loop)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its caller has not gone
                turn.set_result(None)
                loop.call_soon(self._next, loop)  # behind the one that has just been woken
                return
        self._loop = None
