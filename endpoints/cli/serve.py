"""`endpoints serve`: the API. `endpoints dev`: the API and Dagster, while definitions are being written."""

from __future__ import annotations

import os

import click

from endpoints.cli.output import messages
from endpoints.cli.processes import Processes, choose_port, python
from endpoints.cli.project import read_settings

WATCHING = {"ENDPOINTS_WATCH": "true"}

host_option = click.option("--host", help="Address to listen on. [default: ENDPOINTS_HOST, 127.0.0.1]")
port_option = click.option("--port", type=click.IntRange(1, 65535), help="[default: ENDPOINTS_PORT, 8000]")


@click.command()
@host_option
@port_option
@click.option("--workers", type=click.IntRange(1), help="Processes. [default: ENDPOINTS_WORKERS, 1]")
@click.option("--reload", is_flag=True, help="Read definitions again when one changes.")
def serve(host: str | None, port: int | None, workers: int | None, reload: bool) -> None:
    """Serve the endpoints over HTTP.

    \b
    endpoints serve
    endpoints serve --host 0.0.0.0 --port 80 --workers 4
    """
    settings = read_settings()
    workers = workers or settings.workers
    command = serving(host or settings.host, port or settings.port)
    os.chdir(settings.project)
    environment = {**os.environ, **(WATCHING if reload else {})}
    os.execve(command[0], [*command, "--workers", str(workers)], environment)  # noqa: S606  no shell


@click.command()
@host_option
@port_option
@click.option("--dagster-port", type=click.IntRange(1, 65535), help="[default: 3000 or the next free one]")
def dev(host: str | None, port: int | None, dagster_port: int | None) -> None:
    """Run Dagster and the API together, while you write; Ctrl-C ends both.

    The API reads definitions again when one changes; in Dagster's UI press "Reload definitions".

    \b
    endpoints dev
    endpoints dev --port 8001 --dagster-port 3001
    """
    settings = read_settings()
    address = host or settings.host
    api = choose_port(address, port, settings.port or 8000, "--port")
    ui = choose_port(address, dagster_port, 3000, "--dagster-port")
    say = messages()
    with Processes() as processes:
        api_command = serving(address, api)
        processes.start("dagster", dagster(address, ui), environment={}, folder=settings.project)
        processes.start("api", api_command, environment=WATCHING, folder=settings.project)
        say.print(f"Dagster  http://{address}:{ui}\nAPI      http://{address}:{api}\nCtrl-C ends both.")
        try:
            processes.wait()
        except KeyboardInterrupt:
            say.print("Stopping…")


def serving(host: str, port: int) -> list[str]:
    """The command line of the API."""
    return python("-m", "serving", "--host", host, "--port", str(port))


def dagster(host: str, port: int) -> list[str]:
    """The command line of Dagster: its UI and its daemon, over the project's definitions."""
    return python("-m", "orchestration", "dev", "--host", host, "--port", str(port))
