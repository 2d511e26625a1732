"""`endpoints backfill`: make a range of partitions, in one run that can be interrupted and taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.materialize import run_lines
from endpoints.cli.output import as_json, messages, print_json
from endpoints.cli.project import one_version, read_definitions, read_settings

if TYPE_CHECKING:
    from rich.console import Console

    from endpoints.choice import Lacking
    from endpoints.definition import Version
    from endpoints.lake.publish import Lake


@click.command()
@one_version
@click.option("--from", "first", metavar="KEY", help="The oldest partition, or a date or time in it.")
@click.option("--to", "last", metavar="KEY", help="The newest partition, or a date or time in it.")
@click.option("--missing", "what", flag_value="missing", default=True, help="Those without rows (default).")
@click.option("--failed", "what", flag_value="failed", help="Those whose last try failed.")
@click.option("--all", "what", flag_value="all", help="All of them, made before or not.")
@as_json
def backfill(target: str, first: str | None, last: str | None, what: Lacking, as_json: bool) -> None:
    """Make a version's partitions from one to another, both included.

    One run makes them all. A partition that fails leaves the others alone. Interrupted, killed or begun
    twice, the same command goes on: what it has published is not made again.

    \b
    endpoints backfill daily_activity --from 2026-01-01 --to 2026-01-31
    endpoints backfill daily_activity@2 --failed --json
    """
    from endpoints.lake.publish import Lake
    from endpoints.lake.requests import Requests

    settings, say = read_settings(), messages()
    version = read_definitions(settings).version(target)
    lake = Lake.open(settings, probe=False)
    keys = _wanted(version, lake, first, last, what)
    if not keys:
        say.print(f"{version.key}: nothing to make, no partition there is {what}.", markup=False)
        return
    requests = Requests(lake)
    request = requests.leave(
        version.endpoint, version.number, version.fingerprint, keys, by="cli", asked_by="endpoints backfill"
    )
    outcomes: dict[str | None, dict[str, Any]] = {}
    try:
        with (
            _shown(say, version, len(keys)) as show,
            closing(run_lines(settings, [version], ["--request", request.id])) as told,
        ):
            for line in told:
                show(line)
                if "outcome" in line:
                    outcomes[line["partition"]] = line
                    if as_json:
                        print_json(line)
    except KeyboardInterrupt:
        say.print("What is published stays. The same command goes on where this one was.")
        raise
    failed = {key: line["error"] for key, line in outcomes.items() if line["outcome"] != "published"}
    if outcomes.keys() >= set(keys):  # else the run broke off, and the same command goes on
        requests.close(request, {key: error for key, error in failed.items() if key is not None})
    say.print(_summary(version, len(keys), len(outcomes.keys() - failed.keys())), markup=False)
    raise SystemExit(1 if failed or len(outcomes) < len(keys) else 0)


def _wanted(
    version: Version, lake: Lake, first: str | None, last: str | None, what: Lacking
) -> tuple[str, ...]:
    """The partitions of the range that lack what is said. UsageError, InputError."""
    from endpoints.choice import in_range, lacking
    from endpoints.partitions import keys

    partitions = version.materialize.partitions if version.materialize else None
    if partitions is None:
        raise click.UsageError(
            f"{version.key} has no partitions: `endpoints materialize {version.key}` makes it whole."
        )
    now = datetime.now(UTC)
    if first is None and last is None:
        wanted = tuple(keys(partitions, now) or ())
    else:
        wanted = in_range(version, first, last, now)
    return lacking(version, lake.head(version.endpoint, version.number), wanted, what)


@contextmanager
def _shown(say: Console, version: Version, total: int) -> Iterator[Any]:
    """A progress bar over partitions; gives what is told each line of the run."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=say) as progress:
        task = progress.add_task(f"{version.key}: starting Dagster", total=total)

        def show(line: dict[str, Any]) -> None:
            progress.update(task, description=f"{version.key} {line['partition'] or ''}")
            if "outcome" in line:
                progress.advance(task)
                if line["outcome"] != "published":
                    said = f"{version.key} {line['partition'] or ''}: {line['error']}"
                    progress.console.print(said, markup=False)

        yield show


def _summary(version: Version, asked: int, published: int) -> str:
    if published == asked:
        return f"{version.key}: {published} partitions published."
    return f"{version.key}: {published} of {asked} partitions published; `--failed` tries the others again."
