"""Whether the warehouse answers, asked seldom and by one thread, whoever wants to know."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from endpoints.errors import WarehouseError
from endpoints.warehouse.protocol import Warehouse

log = logging.getLogger(__name__)

GOOD_FOR = 5.0  # seconds
PATIENCE = 3.0


class Pulse:
    """The warehouse's last sign of life, and its time zone since it first gave one."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pulse")
        self._asking: asyncio.Future[bool] | None = None
        self._alive, self._at = False, float("-inf")
        self.timezone: str | None = None

    async def alive(self) -> bool:
        """Whether the warehouse answered within the last seconds; asks it where that is not known."""
        if monotonic() - self._at < GOOD_FOR:
            return self._alive
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().run_in_executor(self._thread, self._ask)
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(self._asking)
        except TimeoutError:
            return False

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> bool:
        try:
            self.timezone = self._warehouse.server().timezone
            alive = True
        except WarehouseError as error:
            log.warning("the warehouse does not answer: %s", error)
            alive = False
        self._alive, self._at = alive, monotonic()
        return alive
