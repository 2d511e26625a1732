"""`endpoints serve`: the API. `endpoints dev`: the API and Dagster, while definitions are being written."""

from __future__ import annotations

import os

import click

from endpoints.cli.output import messages
from endpoints.cli.processes import Processes, choose_port, python
from endpoints.cli.project import read_settings

host_option = click.option("--host", help="Address to listen on. [default: ENDPOINTS_HOST, 127.0.0.1]")
port_option = click.option("--port", type=click.IntRange(1, 65535), help="[default: ENDPOINTS_PORT, 8000]")


@click.command()
@host_option
@port_option
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that serve.")
@click.option("--reload", is_flag=True, help="Begin again when code changes (one worker).")
def serve(host: str | None, port: int | None, workers: int, reload: bool) -> None:
    """Serve the endpoints over HTTP.

    \b
    endpoints serve
    endpoints serve --host 0.0.0.0 --port 80 --workers 4
    """
    if reload and workers > 1:
        raise click.UsageError("--reload works with one worker.")
    settings = read_settings()
    arguments = serving(host or settings.host, port or settings.port)
    arguments += ["--reload"] if reload else ["--workers", str(workers)]
    os.chdir(settings.project)
    os.execv(arguments[0], arguments)  # noqa: S606  uvicorn takes over: its signals, its exit status


@click.command()
@host_option
@port_option
@click.option("--dagster-port", type=click.IntRange(1, 65535), help="[default: 3000 or the next free one]")
def dev(host: str | None, port: int | None, dagster_port: int | None) -> None:
    """Run Dagster and the API together, while you write; Ctrl-C ends both.

    Definitions are read again when they change.
    """
    settings = read_settings()
    address = host or settings.host
    api = choose_port(address, port, settings.port, "--port")
    ui = choose_port(address, dagster_port, 3000, "--dagster-port")
    say = messages()
    with Processes() as processes:
        for name, arguments in {
            "Dagster": dagster(address, ui),
            "The API": [*serving(address, api), "--reload"],
        }.items():
            processes.start(name, arguments, environment={}, folder=settings.project)
        say.print(f"Dagster  http://{address}:{ui}\nAPI      http://{address}:{api}/docs\nCtrl-C ends both.")
        try:
            processes.wait()
        except KeyboardInterrupt:
            say.print("Stopping…")


def serving(host: str, port: int) -> list[str]:
    """The command line of the API."""
    return python("-m", "uvicorn", "serving.app:create_app", "--factory", "--host", host, "--port", str(port))


def dagster(host: str, port: int) -> list[str]:
    """The command line of Dagster: its UI and its daemon, over the project's definitions."""
    return python("-m", "orchestration", "dev", "--host", host, "--port", str(port))
