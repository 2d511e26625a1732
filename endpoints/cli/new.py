"""`endpoints new`: a folder to write a query in."""

from __future__ import annotations

import re

import click

from endpoints.cli.project import read_settings

YAML = """\
# yaml-language-server: $schema=../endpoint.schema.json
description: What one row of the answer is, in a sentence.
owner: you@example.com
current: 1

versions:
  1:
    variables:
      event: {description: What this value selects, example: pageview}
    freshness: 1h # rows from the asset are at most this old; older, and the query runs live
    materialize: {schedule: hourly}
    contract:
      columns:
        events: {ge: 1}
"""

SQL = """\
SELECT
    toDate(timestamp) AS day,
    count() AS events
FROM events
WHERE event = {event:String}
GROUP BY day
ORDER BY day
"""


@click.command()
@click.argument("name")
def new(name: str) -> None:
    """Make an endpoint's folder: endpoint.yaml and v1.sql, to edit.

    \b
    endpoints new daily_sales
    """
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]{0,127}", name):
        raise click.UsageError(
            f"{name!r} cannot name an endpoint: a letter, then up to 127 letters, digits, _ and -."
        )
    folder = read_settings().defs
    taken = {path.name.lower(): path for path in folder.iterdir()} if folder.is_dir() else {}
    if name.lower() in taken:
        raise click.UsageError(f"{taken[name.lower()]} is there already.")
    home = folder / name
    home.mkdir(parents=True)
    (home / "endpoint.yaml").write_text(YAML)
    (home / "v1.sql").write_text(SQL)
    click.echo(f"{home / 'endpoint.yaml'}\n{home / 'v1.sql'}\nEdit them, then: endpoints validate")
