"""`endpoints validate`: every mistake in the definitions, with file, line and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from endpoints.cli.output import as_json, messages, print_json
from endpoints.cli.project import read_definitions, read_settings
from endpoints.errors import BadQuery, Problem, UnsupportedType

if TYPE_CHECKING:
    from endpoints.definition import Version
    from endpoints.settings import Settings


@click.command()
@click.option("--connect", is_flag=True, help="Ask ClickHouse too: does each query compile, do its types hold?")
@as_json
def validate(connect: bool, as_json: bool) -> None:
    """Check every definition.

    Needs no ClickHouse, unless --connect is given: then each query is described (not run) there. The exit
    status is 1 where there is a problem.
    """
    settings = read_settings()
    definitions = read_definitions(settings)
    versions = list(definitions.versions)
    problems = list(definitions.problems)
    if connect:
        problems += ask_clickhouse(settings, versions)
    count = len({*definitions.endpoints, *definitions.broken})
    if as_json:
        print_json(
            {
                "ok": not problems,
                "endpoints": count,
                "versions": len(versions),
                "problems": [_as_dict(problem) for problem in problems],
            }
        )
    else:
        _show(problems, f"{count} endpoints, {len(versions)} versions")
    raise SystemExit(1 if problems else 0)


def ask_clickhouse(settings: Settings, versions: Sequence[Version]) -> Iterator[Problem]:
    """What ClickHouse says of each query, and of the types that its contract promises."""
    from endpoints.query.bind import example_statement
    from endpoints.types import check_storable
    from endpoints.warehouse import open_warehouse

    warehouse = open_warehouse(settings)
    try:
        for version in versions:
            file = str(version.sql_file)
            try:
                columns = warehouse.describe(example_statement(version))
                check_storable(columns)
            except BadQuery as error:
                yield Problem(file, 1, "bad_query", str(error), "Correct the query.")
            except UnsupportedType as error:
                yield Problem(file, 1, "unsupported_type", str(error), "Cast the column to another type.")
            else:
                types = {column.name: str(column.type) for column in columns}
                yield from _broken_promises(version, types)
    finally:
        warehouse.close()


def _broken_promises(version: Version, types: dict[str, str]) -> Iterator[Problem]:
    promised = version.contract.columns if version.contract else {}
    for name, column in promised.items():
        if name not in types:
            has = ", ".join(types)
            yield Problem(
                str(version.sql_file), 1, "contract", f"The query has no column {name!r}.", f"It has {has}."
            )
        elif column.type is not None and column.type != types[name]:
            message = f"{name!r} is {types[name]}, not {column.type}."
            yield Problem(str(version.sql_file), 1, "contract", message, "Correct the contract or the query.")


def _as_dict(problem: Problem) -> dict[str, str | int]:
    return {name: getattr(problem, name) for name in ("file", "line", "code", "message", "fix")}


def _show(problems: Sequence[Problem], checked: str) -> None:
    say = messages()
    for problem in problems:
        click.echo(f"{problem.file}:{problem.line}: {problem.message} [{problem.code}]")
        if problem.fix:
            click.echo(f"    {problem.fix}")
    say.print(f"[red]{len(problems)} problems[/] in {checked}." if problems else f"[green]Good[/]: {checked}.")
