"""`endpoints validate`: every mistake in the definitions, with file, line and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from endpoints.cli.output import as_json, messages, print_json
from endpoints.cli.project import read_definitions, read_settings
from endpoints.errors import BadQuery, Problem, UnsupportedType

if TYPE_CHECKING:
    from endpoints.definition import Sources, Version
    from endpoints.settings import Settings
    from endpoints.types import Column


@click.command()
@click.option(
    "--connect", is_flag=True, help="Ask ClickHouse too: does each query compile, do its types hold?"
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=1,
    show_default=True,
    metavar="SECONDS",
    help="How long the lake may take to tell; 0: do not ask it.",
)
@as_json
def validate(connect: bool, wait: float, as_json: bool) -> None:
    """Check every definition.

    Needs no ClickHouse, unless --connect is given: then each query is described (not run) there. Where the
    lake can be read, notes tell what changed definitions will have made again. The exit status is 1 where
    there is a problem; notes are none.

    \b
    endpoints validate
    endpoints validate --connect --json
    """
    from endpoints.definition.lock import lock_problems

    settings = read_settings()
    definitions = read_definitions(settings)
    versions = list(definitions.versions)
    problems = [*definitions.problems, *lock_problems(definitions, settings.defs)]
    if connect:
        problems += ask_clickhouse(settings, versions)
        problems += ask_sources(settings, definitions.sources)
    notes = list(ask_lake(settings, versions, timedelta(seconds=wait))) if wait else []
    count = len({*definitions.endpoints, *definitions.broken})
    if as_json:
        print_json(
            {
                "ok": not problems,
                "endpoints": count,
                "versions": len(versions),
                "problems": [_as_dict(problem) for problem in problems],
                **({"notes": [_as_dict(note) for note in notes]} if notes else {}),
            }
        )
    else:
        _show(problems, notes, f"{count} endpoints, {len(versions)} versions")
    raise SystemExit(1 if problems else 0)


def ask_lake(settings: Settings, versions: Sequence[Version], within: timedelta) -> Iterator[Problem]:
    """What is published and not of the versions' definitions any more. A lake that does not answer is a
    note of its own, since whoever validates may have no access to it.
    """
    from endpoints.rebuilding import rebuilds

    found = rebuilds(settings, versions, datetime.now(UTC), within=within)
    folder = settings.defs.name
    for version in versions:
        if version.key in found.said:
            again = "backfill" if version.materialize and version.materialize.partitions else "materialize"
            yield Problem(
                f"{folder}/{version.endpoint}/endpoint.yaml",
                version.line,
                "rebuild",
                f"{version.key}: {found.said[version.key]}",
                f"Until then calls are not answered from them. `endpoints {again} {version.key}` makes them "
                "now; with the definition of before nothing changes.",
            )
    if found.unread:
        why = f" ({found.why})" if found.why else ""
        message = f"The lake did not tell of {found.unread:,} versions in time{why}."
        yield Problem(folder, 1, "lake_unread", message, "Give it longer with --wait.")


def ask_clickhouse(settings: Settings, versions: Sequence[Version]) -> Iterator[Problem]:
    """What ClickHouse says of each query, and of the types that its contract promises."""
    from endpoints.query.bind import Bound, live_statement
    from endpoints.query.examples import example_values
    from endpoints.types import check_storable
    from endpoints.warehouse import open_warehouse

    warehouse = open_warehouse(settings)
    try:
        for version in versions:
            file = str(version.sql_file)
            try:
                bound = Bound(version, example_values(version), frozenset(), "")
                columns = warehouse.describe(live_statement(bound))
                check_storable(columns)
            except BadQuery as error:
                yield Problem(file, 1, "bad_query", str(error), "Correct the query.")
            except UnsupportedType as error:
                yield Problem(file, 1, "unsupported_type", str(error), "Cast the column to another type.")
            else:
                yield from _broken_promises(version, columns)
    finally:
        warehouse.close()


def ask_sources(settings: Settings, sources: Sources) -> Iterator[Problem]:
    """The tables of sources.yaml that ClickHouse does not have, or whose timestamp is no column of times."""
    from endpoints.definition.sources import SOURCES_NAME
    from endpoints.warehouse import open_warehouse
    from endpoints.warehouse.protocol import Statement

    file = str(settings.defs / SOURCES_NAME)
    warehouse = open_warehouse(settings)
    try:
        for source in sources.tables.values():
            if source.timestamp is None:
                continue
            try:
                newest = warehouse.describe(Statement(source.newest_sql))[0].type
            except BadQuery as error:
                fix = "Correct the table's name or its timestamp."
                yield Problem(file, source.line, "bad_source", str(error), fix)
            else:
                if not newest.base.name.startswith("Date"):
                    message = f"{source.timestamp} of {source.table} is {newest}: no dates or times."
                    yield Problem(
                        file, source.line, "bad_source", message, "Name a column of dates or times."
                    )
    finally:
        warehouse.close()


def _broken_promises(version: Version, columns: Sequence[Column]) -> Iterator[Problem]:
    """Where the contract names a column or a type that the query does not give."""
    from endpoints.types import parse_type

    file, given = str(version.sql_file), {column.name: column.type for column in columns}
    for name, promised in (version.contract.columns if version.contract else {}).items():
        if name not in given:
            message = f"The contract names {name!r}, which the query does not give."
            yield Problem(file, 1, "contract", message, f"Its columns are {', '.join(given)}.")
        elif promised.type is not None and parse_type(promised.type) != given[name]:
            message = f"{name!r} is {given[name]}, not {promised.type} as the contract says."
            yield Problem(file, 1, "contract", message, "Correct the contract or the query.")


def _as_dict(problem: Problem) -> dict[str, str | int]:
    return {name: getattr(problem, name) for name in ("file", "line", "code", "message", "fix")}


def _show(problems: Sequence[Problem], notes: Sequence[Problem], checked: str) -> None:
    say = messages()
    for kind, found in (("", problems), ("note: ", notes)):
        for one in found:
            click.echo(f"{one.file}:{one.line}: {kind}{one.message} [{one.code}]")
            if one.fix:
                click.echo(f"    {one.fix}")
    say.print(
        f"[red]{len(problems)} problems[/] in {checked}." if problems else f"[green]Good[/]: {checked}."
    )
