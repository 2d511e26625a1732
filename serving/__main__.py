"""`python -m serving`: one process on the address that the settings name."""

from __future__ import annotations

import sys

import uvicorn

from endpoints.errors import SettingsError
from endpoints.settings import load_settings
from serving.protocol import BoundedHttp
from serving.service import Service

KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep idle connections, who should be the ones to close
SHUTDOWN_SECONDS = 30  # for answers that are under way


def main() -> int:
    """Serve until stopped. Exit status 2 where the settings are wrong."""
    try:
        settings = load_settings()
        Service.check(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Serving {settings.defs} on http://{settings.host}:{settings.port}", flush=True)
    # No access log: its lines would hold query strings, and those hold the values of private variables.
    uvicorn.run(
        "serving.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        access_log=False,
        server_header=False,
        http=BoundedHttp,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
