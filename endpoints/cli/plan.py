"""`endpoints plan`: can a version's answers be materialized, and how; if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import answers, as_json, print_json
from endpoints.cli.project import one_version, read_definitions, read_settings

if TYPE_CHECKING:
    from endpoints.definition import Version
    from endpoints.query.plan import Plan, Refused
    from endpoints.settings import Settings


@click.command()
@one_version
@click.option(
    "--connect", is_flag=True, help="Ask ClickHouse too whether plan and query give the same columns."
)
@as_json
def plan(target: str, connect: bool, as_json: bool) -> None:
    """Show how a version is materialized, or why it runs live.

    The exit status is 1 where it cannot be materialized.

    \b
    endpoints plan customer_usage
    endpoints plan activity_digest --json
    """
    settings = read_settings()
    version = read_definitions(settings).version(target)
    made = _make(settings, version, connect)
    described = describe(version, made)
    if as_json:
        print_json(described)
    else:
        _show(described)
    raise SystemExit(0 if described["materializable"] else 1)


def _make(settings: Settings, version: Version, connect: bool) -> Plan | Refused:
    from endpoints.query.plan import Refused, check_plan, make_plan

    made = make_plan(version)
    if not connect or isinstance(made, Refused):
        return made
    from endpoints.warehouse import open_warehouse

    warehouse = open_warehouse(settings)
    try:
        return check_plan(made, version, warehouse)
    finally:
        warehouse.close()


def describe(version: Version, made: Plan | Refused) -> dict[str, Any]:
    """A plan as `--json` prints it."""
    from endpoints.query.plan import Refused

    identity = {"endpoint": version.endpoint, "version": version.number}
    if isinstance(made, Refused):
        reasons = [{"code": r.code, "detail": r.detail, "line": r.line, "fix": r.fix} for r in made.reasons]
        return {
            **identity,
            "materializable": False,
            "reasons": reasons,
            "dimensions": [],
            "materialize_sql": None,
            "read": {},
        }
    return {
        **identity,
        "materializable": True,
        "reasons": [],
        "dimensions": [
            {"variable": d.variable, "expression": d.expression, "operator": d.operator}
            for d in made.dimensions
        ],
        "materialize_sql": made.materialize_sql,
        "read": {
            "seek": [d.column for d in made.seek],
            "conditions": [c.sql for c in made.conditions],
            "limit": made.cut.limit,
            "offset": made.cut.offset,
            "finish_sql": made.finish_sql,
            "notes": list(made.notes),
        },
    }


def _show(described: dict[str, Any]) -> None:
    from rich.syntax import Syntax

    out = answers()
    name = f"{described['endpoint']}@{described['version']}"
    if not described["materializable"]:
        click.echo(f"{name} runs live:")
        for reason in described["reasons"]:
            click.echo(
                f"  line {reason['line']}: {reason['detail']} [{reason['code']}] {reason['fix']}".rstrip()
            )
        return
    click.echo(f"{name} is answered from its asset.")
    for dimension in described["dimensions"]:
        said = " ".join(filter(None, (dimension["expression"], dimension["operator"], dimension["variable"])))
        click.echo(f"  dimension: {said}")
    for note in described["read"]["notes"]:
        click.echo(f"  note: {note}")
    click.echo("Materialized by:")
    out.print(Syntax(described["materialize_sql"], "sql", background_color="default", word_wrap=True))
