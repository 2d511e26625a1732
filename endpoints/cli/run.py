"""`endpoints run`: the answer, here."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, moment, print_json, print_table
from endpoints.cli.project import one_version, read_definitions, read_settings

if TYPE_CHECKING:
    from endpoints.cli.answer import Answer, Question

SHOWN = 20  # rows that a person gets unless they ask for more


@click.command()
@one_version
@click.option("-v", "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Repeat it for an array.")
@click.option("--live", is_flag=True, help="Ask ClickHouse, even where there is an asset.")
@click.option("--limit", type=click.IntRange(1), help=f"[default: {SHOWN}; with --json and --csv max_rows]")
@click.option("--offset", type=click.IntRange(0), default=0)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@as_json
def run(
    target: str,
    variables: tuple[str, ...],
    live: bool,
    limit: int | None,
    offset: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Answer a question from the asset, or live, by the rule that the API follows.

    \b
    endpoints run customer_usage -v customer_id=cust_42
    endpoints run customer_usage@1 -v customer_id=cust_42 --live --json
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    from endpoints.cli.answer import Question, answer

    settings = read_settings()
    version = read_definitions(settings).version(target)
    rows = limit or (version.limits.max_rows if as_json or as_csv else SHOWN)
    if rows > version.limits.max_rows:
        raise click.UsageError(f"--limit is at most {version.limits.max_rows}, this version's max_rows.")
    question = Question(version, _given(variables), rows, offset, direct=live)
    found = answer(settings, question, datetime.now(UTC))
    if as_json:
        print_json(envelope(question, found))
    elif as_csv:
        from endpoints.formats import csv_rows

        sys.stdout.buffer.write(csv_rows(found.rows))
    else:
        _show(found)


def _given(variables: tuple[str, ...]) -> dict[str, object]:
    """`name=value` texts; a name that comes again is an array."""
    given: dict[str, list[str]] = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--var {text!r} is not NAME=VALUE.")
        given.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in given.items()}


def envelope(question: Question, found: Answer) -> dict[str, Any]:
    """The answer as the API's JSON has it."""
    return {
        "name": question.version.endpoint,
        "endpoint_version": question.version.number,
        "columns": [column.name for column in found.rows.columns],
        "types": [str(column.type) for column in found.rows.columns],
        "results": _values(found),
        "hasMore": found.rows.has_more,
        "limit": question.limit,
        "offset": question.offset,
        "source": found.source,
        "reason": found.reason,
        "is_cached": False,
        "last_refresh": moment(found.last_refresh),
        "execution_id": found.execution_id,
    }


def _values(found: Answer) -> list[list[Any]]:
    """Rows of JSON values."""
    import json

    from endpoints.formats import json_rows

    rows: list[list[Any]] = json.loads(json_rows(found.rows, shape="arrays"))
    return rows


def _show(found: Answer) -> None:
    from rich.markup import escape

    cells = ([escape("" if value is None else str(value)) for value in row] for row in _values(found))
    print_table([escape(column.name) for column in found.rows.columns], cells)
    why = f" ({found.reason})" if found.reason else ""
    more = "; there are more" if found.rows.has_more else ""
    messages().print(f"{found.source}{why}, as of {moment(found.last_refresh)}{more}", markup=False)
