"""`endpoints alerts`: what is being alerted of, and whether messages arrive."""

from __future__ import annotations

from typing import Any

import click

from endpoints.cli.output import as_json, messages, moment, print_json, print_table
from endpoints.cli.project import read_settings


@click.group()
def alerts() -> None:
    """Show what is being alerted of, or send a message to try the URLs of ENDPOINTS_ALERTS.

    \b
    endpoints alerts list
    endpoints alerts test
    """


@alerts.command(name="list")
@as_json
def list_(as_json: bool) -> None:
    """List what is wrong now, as the sensor saw it last.

    \b
    endpoints alerts list
    endpoints alerts list --json
    """
    from endpoints.alerts.journal import Journal
    from endpoints.lake.publish import Lake

    _, memory = Journal(Lake.open(read_settings(), probe=False).store).read()
    rows: list[dict[str, Any]] = [
        {
            "endpoint": incident.condition.endpoint,
            "version": incident.condition.version,
            "kind": incident.condition.kind,
            "what": incident.condition.what,
            "since": moment(incident.since),
            "told": moment(incident.told),
            "run_id": incident.condition.run_id,
        }
        for _, incident in sorted(memory.incidents.open.items())
    ]
    if as_json:
        print_json(rows)
        return
    from rich.markup import escape

    headings = ("endpoint", "what", "since", "")
    cells = (
        (f"{row['endpoint']}@{row['version']}", row["kind"], f"{row['since'][:16]}Z", escape(row["what"]))
        for row in rows
    )
    print_table(headings, cells)
    if memory.outbox:
        messages().print(f"{len(memory.outbox)} messages wait to be delivered.")


@alerts.command()
@click.option("--route", default=None, help="Only the URLs of this name. Default: all.")
@as_json
def test(route: str | None, as_json: bool) -> None:
    """Send a message to each URL of ENDPOINTS_ALERTS, now.

    The exit status is 1 where one did not take it.

    \b
    endpoints alerts test
    endpoints alerts test --route growth
    """
    from endpoints.alerts.message import Message
    from endpoints.alerts.routes import read_routes, send

    routes = read_routes(read_settings())
    if not routes:
        raise click.UsageError("ENDPOINTS_ALERTS is not set: there is nobody to tell.")
    if route is not None and route not in routes:
        known = ", ".join(name for name in routes if name) or "none"
        raise click.UsageError(f"ENDPOINTS_ALERTS has no {route!r}; its names: {known}.")
    message = Message("Endpoints: a test", "Alerts of this project arrive here.", "info")
    chosen = [t for name, group in routes.items() for t in group if route in (None, name)]
    sent = [(target, send(target, message)) for target in chosen]
    if as_json:
        print_json([{"route": t.route, "number": t.number, "delivered": good} for t, good in sent])
    else:
        for target, good in sent:
            click.echo(f"{target}: {'delivered' if good else 'NOT delivered'}")
    raise SystemExit(0 if all(good for _, good in sent) else 1)
