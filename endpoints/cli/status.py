"""`endpoints status`: what each version would be answered from, read from the lake alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, moment, print_json, print_table
from endpoints.cli.project import choose, read_definitions, read_settings, some_versions

if TYPE_CHECKING:
    from endpoints.definition import Version
    from endpoints.freshness import Standing
    from endpoints.settings import Settings

COLOURS = {"fresh": "green", "stale": "yellow", "live_only": "blue"}


@click.command()
@some_versions
@as_json
def status(targets: tuple[str, ...], as_json: bool) -> None:
    """Show how fresh each version's asset is.

    Asks the lake only: neither Dagster nor ClickHouse need to run. The exit status is 1 where an asset is
    failed or breached.

    \b
    endpoints status
    endpoints status customer_usage@2 --json
    """
    settings = read_settings()
    definitions = read_definitions(settings)
    versions = choose(definitions, targets)
    rows = [_row(version, standing) for version, standing in standings(settings, versions)]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("endpoint", "state", "snapshot", "rows", "last refresh", "newest source row", "error"),
            map(_cells, rows),
        )
    if definitions.broken and not targets:
        broken = ", ".join(definitions.broken)
        messages().print(f"Broken, so not shown: {broken}. See `endpoints validate`.", markup=False)
    raise SystemExit(1 if any(row["state"] in ("failed", "breached") for row in rows) else 0)


def standings(settings: Settings, versions: Sequence[Version]) -> list[tuple[Version, Standing | None]]:
    """Each version with how it stands in the lake; None where it never is materialized."""
    from endpoints.freshness import standing
    from endpoints.lake.publish import Lake
    from endpoints.rebuilding import rebuilding

    lake, now = Lake.open(settings, probe=False), datetime.now(UTC)

    def one(version: Version) -> Standing:
        head = lake.head(version.endpoint, version.number)
        found = standing(version, head, now)
        return replace(found, rebuild=rebuilding(version, head, now))

    return [(version, one(version) if served(version) else None) for version in versions]


def served(version: Version) -> bool:
    """Whether a version can be answered from an asset: it is to be materialized, and its plan is exact."""
    from endpoints.query.plan import Refused, make_plan

    return version.materialize is not None and not isinstance(make_plan(version), Refused)


def _row(version: Version, standing: Standing | None) -> dict[str, Any]:
    identity = {"endpoint": version.endpoint, "version": version.number}
    if standing is None:
        nothing = {"snapshot": None, "rows": None, "last_refresh": None, "source_max": None, "error": None}
        return {**identity, "state": "live_only", **nothing}
    return {
        **identity,
        "state": standing.state.word,
        "snapshot": standing.snapshot,
        "rows": standing.rows,
        "last_refresh": moment(standing.last_refresh),
        "source_max": moment(standing.source_max),
        "error": getattr(standing.state, "error", None) or standing.rebuild,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from rich.markup import escape

    colour = COLOURS.get(row["state"], "red")
    return (
        f"{row['endpoint']}@{row['version']}",
        f"[{colour}]{row['state']}[/]",
        "" if row["snapshot"] is None else str(row["snapshot"]),
        "" if row["rows"] is None else f"{row['rows']:,}",
        f"{row['last_refresh'][:19]}Z" if row["last_refresh"] else "",
        f"{row['source_max'][:19]}Z" if row["source_max"] else "",
        escape(row["error"] or ""),
    )
