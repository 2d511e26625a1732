"""Definitions that change while they are served: read again on SIGHUP, or when a file changes.

They are read and planned beside the old ones, then swapped in between two requests; a request that is under
way ends with those it began with. An endpoint that is broken now keeps its last good form.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress

from watchfiles import awatch

from endpoints.definition import load_project
from serving.loaded import Loaded
from serving.service import Service

log = logging.getLogger(__name__)


class Reloader:
    """Reads the definitions of `service` again. Belongs to the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen for SIGHUP, and with `ENDPOINTS_WATCH` for changes of files."""
        # Not where the loop runs in a thread, nor on Windows: then there is no such signal to listen for.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._later)
        if self._service.settings.watch:
            self._keep(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reload(self) -> None:
        """Serve what the files say now. One at a time; never fails for what is in them."""
        async with self._lock:
            before = self._service.loaded.definitions
            definitions = await asyncio.to_thread(load_project, self._service.settings, before)
            loaded = await asyncio.to_thread(Loaded, definitions)
            self._service.serve(loaded)
            for problem in definitions.problems:
                log.error("%s", problem)
            log.info("definitions read again: %d endpoints", len(loaded.endpoints))

    def _later(self) -> None:
        self._keep(asyncio.create_task(self.reload()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        while True:
            try:
                async for _ in awatch(self._service.settings.defs, step=100, debounce=500):
                    await self.reload()
            except FileNotFoundError:  # the folder is gone, or not made yet
                await asyncio.sleep(1)
