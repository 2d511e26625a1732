"""`endpoints diff`: what changed between two snapshots, or two versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, print_json, print_table
from endpoints.cli.project import one_version, read_definitions, read_settings

if TYPE_CHECKING:
    from endpoints.definition import Version
    from endpoints.lake.differences import Changes
    from endpoints.lake.manifest import Manifest
    from endpoints.lake.publish import Lake


@click.command()
@one_version
@click.argument("other", metavar="[NAME@V]", required=False)
@click.option("--between", nargs=2, type=int, metavar="A B", help="Two snapshots, by number.")
@click.option(
    "--sample", type=click.IntRange(0), default=5, show_default=True, help="Rows to show of each kind."
)
@as_json
def diff(target: str, other: str | None, between: tuple[int, int] | None, sample: int, as_json: bool) -> None:
    """Show what changed between two snapshots, or between two versions.

    Columns, numbers of rows, and a sample of the rows that were added, removed or changed: rows are the same
    row where the contract's `unique` columns, and those that variables compare, say so. Without `--between`:
    what is there now, and what was published before it.

    \b
    endpoints diff customer_usage
    endpoints diff customer_usage --between 41 44
    endpoints diff customer_usage@1 customer_usage@2 --json
    """
    if other and between:
        raise click.UsageError("--between is of one version's snapshots: leave out the second version.")
    from endpoints.lake.differences import changes
    from endpoints.lake.files import FileCache
    from endpoints.lake.publish import Lake

    settings = read_settings()
    definitions = read_definitions(settings)
    lake, version = Lake.open(settings, probe=False), definitions.version(target)
    if other:
        newer = definitions.version(other)
        pair = (_head(lake, version), _head(lake, newer))
    else:
        newer = version
        pair = _snapshots(lake, version, between)
    files = FileCache.open(lake.store, settings)
    found = changes(*pair, files, key=_key(version, newer), sample=sample)
    if as_json:
        print_json(_line(pair, found))
    else:
        _show(pair, found)


def _head(lake: Lake, version: Version) -> Manifest:
    found = lake.head(version.endpoint, version.number)
    if found is None or not found.partitions:
        raise click.ClickException(f"{version.key} has no snapshot: `endpoints materialize {version.key}`.")
    return found


def _snapshots(lake: Lake, version: Version, between: tuple[int, int] | None) -> tuple[Manifest, Manifest]:
    from endpoints.lake.manifest import Manifest

    if between:
        found = [lake.manifest(version.endpoint, version.number, n) if n > 0 else None for n in between]
        for number, one in zip(between, found, strict=True):
            if not isinstance(one, Manifest) or not one.partitions:
                raise click.ClickException(
                    f"{version.key} has no snapshot {number} with data; `endpoints history` lists them."
                )
        before, after = (one for one in found if isinstance(one, Manifest))
        return before, after
    head = _head(lake, version)
    for earlier in lake.history(version.endpoint, version.number):
        if earlier.partitions and earlier.partitions != head.partitions:
            return earlier, head
    raise click.ClickException(f"{version.key} has no earlier snapshot to compare with.")


def _key(*versions: Version) -> tuple[str, ...]:
    """The columns by which a row is the same row: those that every version's contract and plan name."""
    from endpoints.query.plan import Plan, make_plan

    names: set[str] | None = None
    for version in versions:
        plan = make_plan(version)
        seek = {dimension.column for dimension in plan.seek} if isinstance(plan, Plan) else set()
        unique = set(version.contract.unique) if version.contract else set()
        own = seek | unique if unique else set[str]()
        names = own if names is None else names & own
    return tuple(sorted(names or ()))


def _side(manifest: Manifest, rows: int) -> dict[str, Any]:
    return {
        "endpoint": manifest.endpoint,
        "version": manifest.version,
        "snapshot": manifest.number,
        "rows": rows,
    }


def _line(pair: tuple[Manifest, Manifest], found: Changes) -> dict[str, Any]:
    rows: dict[str, Any] = {"compared": found.compared}
    rows |= {"added": None, "removed": None, "changed": None}
    if found.compared:
        rows |= {"added": found.added, "removed": found.removed, "changed": found.changed}
    return {
        "from": _side(pair[0], found.rows[0]),
        "to": _side(pair[1], found.rows[1]),
        "same": found.same,
        "columns": {
            "added": found.added_columns,
            "removed": found.removed_columns,
            "changed": {name: {"from": a, "to": b} for name, (a, b) in found.changed_columns.items()},
        },
        "rows": rows,
        "sample": [{"change": row.change, "from": row.before, "to": row.after} for row in found.sample],
    }


def _show(pair: tuple[Manifest, Manifest], found: Changes) -> None:
    from rich.markup import escape

    say = messages()
    before, after = (f"{m.endpoint}@{m.version} snapshot {m.number}" for m in pair)
    say.print(f"{before}: {found.rows[0]:,} rows; {after}: {found.rows[1]:,} rows", markup=False)
    for name, kind in found.added_columns.items():
        say.print(f"column added: {name} {kind}", markup=False)
    for name, kind in found.removed_columns.items():
        say.print(f"column removed: {name} {kind}", markup=False)
    for name, (was, now) in found.changed_columns.items():
        say.print(f"column {name}: {was} is now {now}", markup=False)
    if not found.compared:
        say.print("Too many rows differ to compare them one by one.", markup=False)
        return
    if found.same:
        say.print("Nothing has changed.", markup=False)
        return
    say.print(
        f"rows added {found.added:,}, removed {found.removed:,}, changed {found.changed:,}", markup=False
    )
    if not found.sample:
        return
    names = list(dict.fromkeys(name for row in found.sample for name in (row.before or row.after or {})))
    lines = []
    for row in found.sample:
        for side, mark in ((row.before, "-"), (row.after, "+")):
            if side is not None:
                lines.append((f"{row.change} {mark}", *(escape(str(side.get(name, ""))) for name in names)))
    print_table(("change", *map(escape, names)), lines)
