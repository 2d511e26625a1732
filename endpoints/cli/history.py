"""`endpoints history`: what has happened to a version's asset, newest first."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, moment, print_json, print_table
from endpoints.cli.project import one_version, read_definitions, read_settings

if TYPE_CHECKING:
    from endpoints.lake.manifest import Manifest

COLOURS = {"published": "green", "released": "green", "rolled_back": "yellow", "superseded": "blue"}
SHOWN_PARTITIONS = 3


@click.command()
@one_version
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Snapshots to show.")
@as_json
def history(target: str, limit: int, as_json: bool) -> None:
    """List a version's snapshots, newest first: one for each attempt, rollback and release.

    As far back as they have been kept (ENDPOINTS_RETENTION, ENDPOINTS_KEEP_SNAPSHOTS). `--to` of `endpoints
    rollback` takes their numbers.

    \b
    endpoints history customer_usage
    endpoints history customer_usage@1 --limit 5 --json
    """
    from endpoints.lake.publish import Lake

    settings = read_settings()
    version = read_definitions(settings).version(target)
    kept = Lake.open(settings, probe=False).history(version.endpoint, version.number)
    rows = [_row(manifest, version.fingerprint) for manifest in islice(kept, limit)]
    if as_json:
        print_json(rows)
    else:
        print_table(("snapshot", "when", "outcome", "partitions", "rows", "run", "notes"), map(_cells, rows))


def _row(manifest: Manifest, fingerprint: str) -> dict[str, Any]:
    """One snapshot. `partitions` are those that it made, `rows` all that it has."""
    entries, failures = manifest.partitions, manifest.failures
    failed = {key: f for key, f in failures.items() if f.attempt_id == manifest.attempt_id}
    made = [key for key, entry in entries.items() if entry.snapshot == manifest.number]
    return {
        "snapshot": manifest.number,
        "created_at": moment(manifest.created_at),
        "outcome": manifest.outcome,
        "partitions": sorted(made or failed),
        "rows": sum(entry.rows for entry in entries.values()) if entries else None,
        "bytes": sum(entry.bytes for entry in entries.values()) if entries else None,
        "run_id": manifest.run_id or None,
        "held": manifest.held,
        "restored": manifest.restored,
        "changed": any(entry.fingerprint != fingerprint for entry in entries.values()),
        "error": next((failure.error for failure in failed.values()), None),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from rich.markup import escape

    colour = COLOURS.get(row["outcome"], "red")
    keys = row["partitions"]
    shown = ", ".join(keys[:SHOWN_PARTITIONS])
    more = f" and {len(keys) - SHOWN_PARTITIONS} more" if len(keys) > SHOWN_PARTITIONS else ""
    notes = [f"content of {row['restored']}, held"] if row["held"] else []
    notes += ["of another definition"] if row["changed"] else []
    notes += [row["error"]] if row["error"] else []
    return (
        str(row["snapshot"]),
        f"{row['created_at'][:19]}Z",
        f"[{colour}]{row['outcome'].replace('_', ' ')}[/]",
        escape(shown + more),
        "" if row["rows"] is None else f"{row['rows']:,}",
        (row["run_id"] or "")[:8],
        escape("; ".join(notes)),
    )
