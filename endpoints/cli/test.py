"""`endpoints test`: versions tried out with their own examples."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, print_json, print_table
from endpoints.cli.project import choose, read_definitions, read_settings, some_versions

if TYPE_CHECKING:
    from endpoints.definition import Version
    from endpoints.rows import Rows
    from endpoints.settings import Settings

COLOURS = {"passed": "green", "skipped": "yellow"}
MOST_ROWS = 10_000


@click.command()
@some_versions
@as_json
def test(targets: tuple[str, ...], as_json: bool) -> None:
    """Run versions with their variables' examples, live and from the asset, and compare.

    Each version is run live with the `example` of each variable (else the first of its `enum`, else its
    default; optional ones are left out), and its rows are held to its contract. Where there is a fresh asset,
    its answer must be the same. A required variable without example skips the version. The exit status is 1
    where any failed.

    \b
    endpoints test
    endpoints test customer_usage@2 --json
    """
    settings = read_settings()
    definitions = read_definitions(settings)
    failed = bool(definitions.broken) and not targets
    rows = []
    for version in choose(definitions, targets):
        row = _row(version, *try_version(settings, version))
        failed |= row["outcome"] == "failed"
        rows.append(row)
    for name, problems in definitions.broken.items() if not targets else ():
        rows.append(
            {"endpoint": name, "version": None, "outcome": "failed", "rows": None, "compared": False}
            | {"detail": str(problems[0])}
        )
    if as_json:
        print_json(rows)
    else:
        print_table(("endpoint", "outcome", "rows", "asset", "detail"), map(_cells, rows))
    raise SystemExit(1 if failed else 0)


def try_version(settings: Settings, version: Version) -> tuple[str, int | None, bool, str]:
    """The outcome (`passed`, `failed`, `skipped`), the rows, whether an asset's answer was compared, why."""
    from endpoints.cli.answer import Question, answer
    from endpoints.errors import EndpointsError
    from endpoints.parity import FLOATS, difference
    from endpoints.query.plan.describe import changing

    given = examples(version)
    if isinstance(given, str):
        return "skipped", None, False, f"{given} has no example"
    question = Question(version, given, min(version.limits.max_rows, MOST_ROWS))
    now = datetime.now(UTC)
    try:
        own = answer(settings, question, now)
        live = own if own.source == "live" else None
        if live is None and version.live_when:
            live = answer(settings, replace(question, direct=True), now)
    except EndpointsError as error:
        return "failed", None, False, str(error)
    rows = own.rows.size
    if own.reason in ("failed", "breached"):
        return "failed", rows, False, f"its newest run {own.reason}: see `endpoints status {version.key}`"
    if breach := _breach(version, live.rows if live else own.rows):
        return "failed", rows, False, breach
    if live is None or live is own:
        return "passed", rows, False, "" if live is None else f"live only now: {own.reason}"
    unknown = changing(version.sql)
    if unknown.columns is None:
        return "passed", rows, False, f"{', '.join(unknown.functions)} may answer differently each time"
    same = difference(own.rows, live.rows, floats=FLOATS, ordered=False, without=unknown.columns)
    if same is None:
        return "passed", rows, True, ""
    if own.source == "stale":
        return "passed", rows, False, f"not compared: the asset is {own.reason}"
    since = own.last_refresh.isoformat(timespec="seconds") if own.last_refresh else "its run"
    return (
        "failed",
        rows,
        True,
        f"the asset's answer is not the live one; its source may have changed since {since}",
    )


def examples(version: Version) -> dict[str, object] | str:
    """What a caller could send for each variable; the name of one for which there is nothing to send."""
    from endpoints.types import show_value

    given: dict[str, object] = {}
    for variable in version.variables.values():
        value = variable.example if variable.example is not None else (variable.enum or (None,))[0]
        if value is not None:
            given[variable.name] = show_value(variable.type, value)
        elif variable.required:
            return variable.name
    return given


def _breach(version: Version, rows: Rows) -> str:
    """How the rows of one answer break the contract; what it says of the whole asset is left out."""
    from endpoints.contract import Audit
    from endpoints.errors import ContractBreach

    if version.contract is None:
        return ""
    contract = replace(version.contract, rows_min=None, rows_max=None)
    try:
        with Audit(contract, rows.columns, timezone=rows.timezone) as audit:
            for batch in rows.table.to_batches():
                audit.add(batch)
            audit.finish()
    except ContractBreach as breach:
        return str(breach)
    return ""


def _row(version: Version, outcome: str, rows: int | None, compared: bool, detail: str) -> dict[str, Any]:
    return {
        "endpoint": version.endpoint,
        "version": version.number,
        "outcome": outcome,
        "rows": rows,
        "compared": compared,
        "detail": detail or None,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from rich.markup import escape

    name = row["endpoint"] if row["version"] is None else f"{row['endpoint']}@{row['version']}"
    return (
        name,
        f"[{COLOURS.get(row['outcome'], 'red')}]{row['outcome']}[/]",
        "" if row["rows"] is None else f"{row['rows']:,}",
        "the same" if row["compared"] and row["outcome"] == "passed" else "",
        escape(row["detail"] or ""),
    )
