"""The `endpoints` command.

Exit status: 0 good, 1 the thing asked about is not good, 2 wrong use, 130 interrupted. What programs read
goes to standard output (`--json`); everything for people who wait goes to standard error.

Modules here import only click and each other at the top: `endpoints --help` must not wait for ClickHouse,
Polars or Dagster. Dagster and FastAPI are only ever started as processes.
"""

from __future__ import annotations

import signal
from typing import Any

import click

from endpoints.cli.alerts import alerts
from endpoints.cli.backfill import backfill
from endpoints.cli.demo import demo
from endpoints.cli.diff import diff
from endpoints.cli.history import history
from endpoints.cli.keys import keys
from endpoints.cli.lock import lock
from endpoints.cli.materialize import materialize
from endpoints.cli.new import new
from endpoints.cli.plan import plan
from endpoints.cli.rollback import release, rollback
from endpoints.cli.run import run
from endpoints.cli.serve import dev, serve
from endpoints.cli.status import status
from endpoints.cli.test import test
from endpoints.cli.token import token
from endpoints.cli.usage import usage
from endpoints.cli.validate import validate
from endpoints.errors import EndpointsError, InputError, SettingsError

_INTERRUPTED = 128 + signal.SIGINT  # as shells say it


class _Commands(click.Group):
    """Turns the errors this project raises on purpose into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EndpointsError as error:
            from endpoints.definition import UnknownEndpoint

            click.echo(f"Error: {error}", err=True)
            ctx.exit(2 if isinstance(error, InputError | SettingsError | UnknownEndpoint) else 1)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(_INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of a first day's work, not of the alphabet


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="query-endpoints")
def main() -> None:
    """ClickHouse queries as stable, versioned API endpoints.

    \b
    endpoints demo                          the whole thing on this machine
    endpoints new daily_sales               a folder to write a query in
    endpoints validate                      every mistake, with file and line
    endpoints run daily_sales -v region=EU  the answer, here
    endpoints materialize daily_sales       its rows into the lake
    endpoints serve                         the API
    """


for command in (
    *(
        demo,
        dev,
        serve,
        new,
        validate,
        plan,
        run,
        materialize,
        backfill,
        status,
        test,
        history,
        diff,
        rollback,
        release,
    ),
    usage,
    *(keys, token, lock, alerts),
):
    main.add_command(command)
