"""`python -m serving [--host HOST] [--port PORT] [--workers N]`: the API, on the address of the settings."""

from __future__ import annotations

import argparse
import os
import sys

import uvicorn

from endpoints.errors import SettingsError
from endpoints.settings import load_settings
from serving import logs
from serving.protocol import BoundedHttp
from serving.service import Service
from serving.workers import serve

# Longer than load balancers keep idle connections (mostly 60 s): the side that calls must be the one to close
# them, or a request meets a connection that is just being closed.
KEEP_ALIVE_SECONDS = 75
SHUTDOWN_SECONDS = 30  # for answers that are under way
# A worker that does not answer the parent for so long is killed. uvicorn's 5 s ended good ones on a machine
# that had no processor to spare.
STARVED_SECONDS = 30


def main() -> int:
    """Serve until stopped. Exit status 2 where the settings are wrong."""
    asked = _arguments()
    try:
        settings = load_settings()
        Service.check(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    host, port, workers = (
        asked.host or settings.host,
        asked.port or settings.port,
        asked.workers or settings.workers,
    )
    os.environ["ENDPOINTS_WORKERS"] = str(workers)  # what each has to share rates with
    print(f"Serving {settings.defs} on http://{host}:{port}", flush=True)
    serve(
        uvicorn.Config(
            "serving.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            # uvicorn's own lines would hold query strings, and those hold the values of private variables.
            access_log=False,
            log_config=logs.configuration(settings),
            server_header=False,
            http=BoundedHttp,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            timeout_worker_healthcheck=STARVED_SECONDS,
        )
    )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve the endpoints over HTTP.")
    parser.add_argument("--host", help="address to listen on (ENDPOINTS_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (ENDPOINTS_PORT)")
    parser.add_argument("--workers", type=int, help="processes (ENDPOINTS_WORKERS)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
