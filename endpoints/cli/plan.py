"""`endpoints plan`: can a version's answers be materialized, and how; if not, why."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import answers, as_json, messages, print_json
from endpoints.cli.project import one_version, read_definitions, read_settings

if TYPE_CHECKING:
    from endpoints.definition import Version
    from endpoints.query.plan import Plan, Refused
    from endpoints.settings import Settings
    from endpoints.warehouse.protocol import Warehouse

Described = dict[str, Any]


@click.command()
@one_version
@click.option(
    "--connect", is_flag=True, help="Ask ClickHouse too whether plan and query give the same columns."
)
@click.option(
    "--measure",
    is_flag=True,
    help="Ask ClickHouse how many rows, bytes and values of each dimension the asset would have.",
)
@as_json
def plan(target: str, connect: bool, measure: bool, as_json: bool) -> None:
    """Show how a version is materialized, or why it runs live.

    The exit status is 1 where it cannot be materialized.

    \b
    endpoints plan customer_usage
    endpoints plan activity_digest --json
    endpoints plan activity_digest --measure
    """
    settings = read_settings()
    version = read_definitions(settings).version(target)
    described = _asked(settings, version, measure) if connect or measure else _read(version)
    described |= {"checked": connect or measure, "rebuild": _rebuild(settings, version)}
    if as_json:
        print_json(described)
    else:
        _show(described, _shown_path(version.sql_file, settings.project))
        if described["materializable"] and not described["checked"]:
            messages().print("By its text alone: --connect asks ClickHouse as well.")
    raise SystemExit(0 if described["materializable"] else 1)


def _rebuild(settings: Settings, version: Version) -> str | None:
    """What is published of another definition; None also where the lake cannot be asked."""
    from endpoints.rebuilding import rebuilds

    return rebuilds(settings, [version], datetime.now(UTC)).said.get(version.key)


def _read(version: Version) -> Described:
    """What the text alone tells."""
    from endpoints.query.plan import make_plan

    return describe(version, make_plan(version))


def _asked(settings: Settings, version: Version, measure: bool) -> Described:
    """What ClickHouse says to it as well."""
    from endpoints.query.plan import Refused, check_plan, make_plan
    from endpoints.warehouse import open_warehouse

    made = make_plan(version)
    if isinstance(made, Refused):
        return describe(version, made)
    with closing(open_warehouse(settings)) as warehouse:
        checked = check_plan(made, version, warehouse)
        described = describe(version, checked)
        if measure and not isinstance(checked, Refused):
            most = version.limits.max_asset_rows or settings.max_asset_rows
            described |= _measured(version, checked, warehouse, most, described)
    return described


def _measured(
    version: Version, made: Plan, warehouse: Warehouse, most: int, described: Described
) -> Described:
    """What `--measure` adds: the sizes, and a reason where they are past the limit."""
    from endpoints.cardinality import estimate_bytes, measure, too_large
    from endpoints.query.slices import all_bounds

    bounds = all_bounds(version, datetime.now(UTC))
    found = measure(made, warehouse, bounds)
    sizes = {
        "rows": found.rows,
        "bytes": estimate_bytes(made, warehouse, found.rows, bounds),
        "max_asset_rows": most,
        "dimensions": [
            {"expression": expression, "values": values} for expression, values in found.distinct.items()
        ],
    }
    if found.rows <= most:
        return {"measured": sizes}
    reason = {"code": "too_large", "detail": str(too_large(version, found, most)), "line": 1, "fix": ""}
    return {"measured": sizes, "materializable": False, "reasons": [*described["reasons"], reason]}


def describe(version: Version, made: Plan | Refused) -> Described:
    """A plan as `--json` prints it."""
    from endpoints.query.plan import Refused
    from endpoints.query.plan.describe import changing, predicates

    identity = {"endpoint": version.endpoint, "version": version.number}
    if isinstance(made, Refused):
        reasons = [{"code": r.code, "detail": r.detail, "line": r.line, "fix": r.fix} for r in made.reasons]
        return {
            **identity,
            "materializable": False,
            "reasons": reasons,
            "dimensions": [],
            "partitions": None,
            "materialize_sql": None,
            "read": {},
        }
    return {
        **identity,
        "materializable": True,
        "reasons": [],
        "dimensions": [
            {
                "variable": p.variable,
                "expression": p.expression,
                "operator": p.operator,
                **({"bucket": bucket} if (bucket := version.variables[p.variable].bucket) else {}),
            }
            for p in predicates(made)
        ],
        "partitions": _partitions(version, made),
        "materialize_sql": made.materialize_sql,
        "read": {
            "columns": [
                {"column": d.column, "expression": d.expression, "stored": d.stored} for d in made.dimensions
            ],
            **_stored(made),
            "limit": made.cut.limit,
            "offset": made.cut.offset,
            "parts": [{"materialize_sql": part.materialize_sql, **_stored(part)} for part in made.parts],
            "notes": list(changing(version.sql, made.floats).notes),
        },
    }


def _partitions(version: Version, made: Plan) -> Described | None:
    """How the version is sliced, and how the slices' rows make one answer."""
    from endpoints.partitions import keys

    partitions = version.materialize.partitions if version.materialize else None
    if partitions is None or made.slicing is None:
        return None
    known = keys(partitions, datetime.now(UTC)) or []
    if made.finish is not None:
        combined = "finished together"
    else:
        combined = "one after the other" if made.slicing.along else "merged in the query's order"
    return {
        "read": made.slicing.read,
        "column": made.slicing.column,
        "by": partitions.by,
        "timezone": partitions.timezone if partitions.start else None,
        "refresh": partitions.refresh,
        "count": len(known),
        "first": known[0] if known else None,
        "last": known[-1] if known else None,
        "combined": combined,
    }


def _stored(made: Plan) -> Described:
    """How the rows of a stored SELECT are found and made into its answer."""
    states = made.finish.states if made.finish else ()
    return {
        "seek": [d.column for d in made.seek],
        "conditions": [c.sql for c in made.conditions],
        "states": [{"aggregate": s.written, "stored": s.stored, "merged": s.merges} for s in states],
        "finish_sql": made.finish_sql,
    }


def _shown_path(path: Path, project: Path) -> str:
    return str(path.relative_to(project) if path.is_relative_to(project) else path)


def _show(described: Described, file: str) -> None:
    name = f"{described['endpoint']}@{described['version']}"
    if described["materializable"]:
        click.echo(f"{name} is answered from its asset.")
    else:
        click.echo(f"{name} runs live:")
    for reason in described["reasons"]:
        click.echo(f"  {file}:{reason['line']}: {reason['detail']} [{reason['code']}]")
        if reason["fix"]:
            click.echo(f"    {reason['fix']}")
    if described["rebuild"]:
        click.echo(f"  changed: {described['rebuild']}")
    if sliced := described["partitions"]:
        zone = f" of {sliced['timezone']}" if sliced["timezone"] else ""
        which = f", {sliced['first']} … {sliced['last']}" if sliced["count"] else ""
        click.echo(f"  partitions: {sliced['count']:,} by {sliced['by']}{zone}{which}, slices of")
        click.echo(f"    {sliced['column']} in {sliced['read']}; several are {sliced['combined']}")
    if described["materialize_sql"] is not None:
        _show_plan(described)
    if sizes := described.get("measured"):
        _show_sizes(sizes)


def _show_plan(described: Described) -> None:
    read = described["read"]
    columns = {column["expression"]: column["column"] for column in read["columns"]}
    for dimension in described["dimensions"]:
        stored = columns.get(dimension["expression"])
        how = f", stored as {stored}" if stored else ""
        if dimension.get("bucket"):
            how = f", stored by the {dimension['bucket']}: a value within one runs live"
        how = "" if read["parts"] else how
        if stored in read["seek"]:
            how += ": rows are sorted by it, and a call reads those of its value"
        elif stored and not read["parts"] and not dimension.get("bucket"):
            how += ": a call leaves out the rows that do not pass"
        said = f"{dimension['expression']} {dimension['operator']} {{{dimension['variable']}}}"
        click.echo(f"  dimension: {said}{how}")
    for state in read["states"]:
        click.echo(
            f"  merges: {state['aggregate']}, stored as {state['stored']}, put together by {state['merged']}"
        )
    for note in read["notes"]:
        click.echo(f"  note: {note}")
    if read["parts"]:
        _show_parts(read)
        return
    _show_sql("Materialized by:", described["materialize_sql"])
    if read["finish_sql"]:
        asked = "".join(f"\n  AND {condition}" for condition in read["conditions"]).removeprefix("\n  AND ")
        where = f"Finished by, when read, over the rows of __asset where {asked}:" if asked else ""
        _show_sql(where or "Finished by, when read:", read["finish_sql"])
    elif read["conditions"]:
        _show_sql("Rows are kept, when read, where:", "\nAND ".join(read["conditions"]))


def _show_parts(read: Described) -> None:
    """The SELECTs that are stored side by side, and what puts their answers together."""
    for number, part in enumerate(read["parts"]):
        _show_sql(f"Materialized, part {number}, by:", part["materialize_sql"])
        asked = [f"{column} = its variable" for column in part["seek"]] + part["conditions"]
        where = f" where {' AND '.join(asked)}" if asked else ""
        _show_sql(f"Read as __asset{number}, over its rows{where}, by:", part["finish_sql"])
    _show_sql("Finished by, when read:", read["finish_sql"])


def _show_sql(title: str, sql: str) -> None:
    from rich.syntax import Syntax

    click.echo(title)
    answers().print(Syntax(sql, "sql", background_color="default", word_wrap=True))


def _show_sizes(sizes: Described) -> None:
    click.echo(
        f"Measured: {sizes['rows']:,} rows of {sizes['max_asset_rows']:,}, about {sizes['bytes']:,} bytes"
    )
    for dimension in sizes["dimensions"]:
        click.echo(f"  {dimension['expression']}: {dimension['values']:,} values")
