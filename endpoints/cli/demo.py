"""`endpoints demo`: data that keeps coming, Dagster, the API and the sample endpoints, on this machine."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.materialize import materialize_versions
from endpoints.cli.output import messages
from endpoints.cli.processes import Processes, choose_port
from endpoints.cli.project import read_definitions, read_settings
from endpoints.cli.serve import WATCHING, dagster, serving

if TYPE_CHECKING:
    from rich.console import Console

    from endpoints.definition import Definitions
    from endpoints.settings import Settings

HOST = "127.0.0.1"
KEY_NAME = "demo"
SAMPLE = "customer_usage"
QUESTION = f"/endpoints/{SAMPLE}/run?customer_id=cust_42"
port_number = click.IntRange(1, 65535)


@click.command()
@click.option("--port", type=port_number, help="Of the API. [default: ENDPOINTS_PORT or the next free one]")
@click.option("--dagster-port", type=port_number, help="Of Dagster. [default: 3000 or the next free one]")
@click.option("--events", type=click.IntRange(1), default=2_000_000, show_default=True, help="In 90 days.")
@click.option("--once", is_flag=True, help="End everything after the first answer.")
def demo(port: int | None, dagster_port: int | None, events: int, once: bool) -> None:
    """See it work: events, Dagster, the API, four endpoints.

    Makes about two million product events over the last 90 days in ./data and adds new ones while it runs,
    materializes the endpoints of ./endpoint_defs into ./lake, and prints the URLs, a key and a `curl` line.
    Ctrl-C ends all of it. Run it again: it keeps what is there.

    \b
    endpoints demo
    endpoints demo --port 8001 --events 100000
    """
    settings = local_settings()
    definitions = read_definitions(settings)
    if SAMPLE not in {*definitions.endpoints, *definitions.broken}:
        raise click.UsageError(f"{settings.defs} has no {SAMPLE}: run the demo in a clone of the repository.")
    api_port = choose_port(HOST, port, settings.port or 8000, "--port")
    ui_port = choose_port(HOST, dagster_port, 3000, "--dagster-port")
    api, ui = f"http://{HOST}:{api_port}", f"http://{HOST}:{ui_port}"
    say = messages()
    try:
        with Processes() as processes, events_that_keep_coming(say, settings, events):
            commands = {
                "api": serving(HOST, api_port),
                "dagster": dagster(HOST, ui_port),
            }
            environment = {"ENDPOINTS_DAGSTER_URL": ui, **WATCHING}
            for name, command in commands.items():
                log = settings.project / ".dagster" / f"{name}.log"
                processes.start(name, command, environment=environment, folder=settings.project, log=log)
            materialize_samples(say, settings, definitions)
            processes.wait_for("api", lambda: responds(f"{api}/healthz"))
            processes.wait_for("dagster", lambda: responds(f"{ui}/server_info"))
            introduce(say, api, ui, new_key(settings))
            if not once:
                processes.wait()
    except KeyboardInterrupt:
        say.print("\nStopped. What was made is kept: `endpoints demo` goes on from here.")


def local_settings() -> Settings:
    """The project's settings, but with warehouse, lake and keys in the project folder, whatever `.env` says.

    Set in the environment too, so that the processes we start do as we do.
    """
    project = read_settings().project
    os.environ["ENDPOINTS_CLICKHOUSE_URL"] = f"chdb://{project / 'data'}"
    os.environ["ENDPOINTS_LAKE_URL"] = os.environ["ENDPOINTS_KEYS_URL"] = f"file://{project / 'lake'}"
    return read_settings()


@contextmanager
def events_that_keep_coming(say: Console, settings: Settings, total: int) -> Iterator[None]:
    """90 days of events in `data/events`, and the newest every few seconds."""
    from rich.progress import Progress

    from endpoints.demo.events import EventSource, Feed, write_events

    folder, source = settings.project / "data" / "events", EventSource(total)
    with Progress(console=say, transient=True) as progress:
        bar = progress.add_task("Making product events of 90 days")
        for done, days in write_events(folder, source, datetime.now(UTC)):
            progress.update(bar, completed=done, total=days)
    say.print(f"Events of 90 days are in {folder}; new ones are added every few seconds.")
    feed = Feed(folder, source)
    feed.start()
    try:
        yield
    finally:
        feed.stop()


def materialize_samples(say: Console, settings: Settings, definitions: Definitions) -> None:
    """Materialize what is not fresh already. One that fails is said to, and runs live: part of the show."""
    from endpoints.cli.status import standings

    due = [
        version
        for version, standing in standings(settings, list(definitions.versions))
        if standing is not None and standing.state.word != "fresh"
    ]
    for _ in materialize_versions(say, settings, due):
        pass


def new_key(settings: Settings) -> str:
    """A key for this machine, for a week; the last demo's keys end here."""
    from endpoints.cli.keys import open_keys

    keys = open_keys(settings)
    ended = keys.revoked()
    for record in keys.all():
        if record.name == KEY_NAME and record.id not in ended:
            keys.revoke(record.id)
    _, key = keys.create(KEY_NAME, expires_at=datetime.now(UTC) + timedelta(days=7))
    return key


def responds(url: str) -> bool:
    """Whether the server there answers at all."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own http:// URL
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def introduce(say: Console, api: str, ui: str, key: str) -> None:
    """Ask the API what we tell the reader to ask, and say where everything is."""
    say.print(
        f"\n  Dagster  {ui}"
        f"\n  API      {api}/docs (the password is the key)"
        f"\n  Key      {key}"
        f"\n\n  curl -H 'Authorization: Bearer {key}' '{api}{QUESTION}'"
        f"\n\n  That answers with {ask(api, key)}."
        "\n  Ctrl-C ends all of it.\n",
        markup=False,
    )


def ask(api: str, key: str) -> str:
    """What the question is answered with. The API follows the lake, and may be seconds behind it."""
    request = urllib.request.Request(api + QUESTION, headers={"Authorization": f"Bearer {key}"})  # noqa: S310
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            return f"HTTP status {error.code}"
        if answer["reason"] != "missing" or time.monotonic() > deadline:
            reason = f" (reason: {answer['reason']})" if answer["reason"] else ""
            return f"{len(answer['results'])} rows, source: {answer['source']}{reason}"
        time.sleep(0.5)
