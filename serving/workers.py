"""Several processes on one address, and the one that starts them.

uvicorn's own supervisor answers SIGHUP by starting every worker anew. Ours passes it on: each reads the
definitions again by itself, keeps what it knows, and what is broken now keeps its last good form.
"""

from __future__ import annotations

import os
import signal
from contextlib import closing, suppress

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from endpoints.scratch import Scratch


class Workers(Multiprocess):
    """The parent of `config.workers` processes. One that dies is replaced."""

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid is not None:
                with suppress(ProcessLookupError):  # it has just died: the next one reads what is there
                    os.kill(process.pid, signal.SIGHUP)


def serve(config: Config) -> None:
    """Serve until stopped, with one process or with several."""
    if config.workers == 1:
        Server(config).run()
        return
    with closing(config.bind_socket()) as listening, closing(Scratch("metrics")) as metrics:
        os.environ.setdefault("ENDPOINTS_METRICS_DIR", str(metrics.path))
        Workers(config, [listening]).run()
