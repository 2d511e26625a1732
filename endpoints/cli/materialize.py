"""`endpoints materialize`: run versions' Dagster assets now."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import IO, TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, print_json
from endpoints.cli.processes import Interruptible, end, python, spawn
from endpoints.cli.project import choose, read_definitions, read_settings, some_versions
from endpoints.cli.status import served

if TYPE_CHECKING:
    from rich.console import Console

    from endpoints.definition import Version
    from endpoints.settings import Settings


@click.command()
@some_versions
@click.option("--all", "everything", is_flag=True, help="Every version that has an asset.")
@click.option("--partition", "partitions", multiple=True, metavar="KEY", help="A partition; may be repeated.")
@click.option("--from", "first", metavar="KEY", help="The oldest partition to make, or a time in it.")
@click.option("--to", "last", metavar="KEY", help="The newest partition to make, or a time in it.")
@as_json
def materialize(
    targets: tuple[str, ...],
    everything: bool,
    partitions: tuple[str, ...],
    first: str | None,
    last: str | None,
    as_json: bool,
) -> None:
    """Publish versions' rows, through their Dagster assets.

    The runs show in Dagster. Rows that break the contract are not published, and what was there stays. Of a
    version with partitions those that are due are made: open, missing or failed ones.

    \b
    endpoints materialize customer_usage
    endpoints materialize daily_activity --from 2026-01-01 --to 2026-01-31
    endpoints materialize customer_usage@1 landing_stats --json
    """
    if bool(targets) == everything:
        raise click.UsageError("Name what to materialize, or say --all.")
    settings = read_settings()
    versions = choose(read_definitions(settings), targets)
    if everything:
        versions = [version for version in versions if served(version)]
    failed = False
    if partitions and (first or last):
        raise click.UsageError("Give --partition, or --from and --to, not both.")
    options = [text for key in partitions for text in ("--partition", key)]
    options += ["--from", first] if first else []
    options += ["--to", last] if last else []
    for outcome in materialize_versions(messages(), settings, versions, options):
        failed |= outcome["outcome"] != "published"
        if as_json:
            print_json(outcome)
    raise SystemExit(1 if failed else 0)


def materialize_versions(
    say: Console, settings: Settings, versions: Sequence[Version], options: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Run the versions' assets in turn; yield an outcome per partition, as `--json` prints it.

    `options` are those of `orchestration.run` that say which partitions. People are told of each version in
    one line, and of each partition that failed in one of its own.
    """
    if not versions:
        return
    published: list[dict[str, Any]] = []  # of one version
    with say.status("Starting Dagster") as status, closing(run_lines(settings, versions, options)) as lines:
        for line in lines:
            if published and _version(line) != _version(published[0]):
                say.print(_sentence(published), markup=False)
                published = []
            if "outcome" not in line:
                many = f" ({line['done'] + 1} of {line['asked']})" if line["asked"] > 1 else ""
                rows = f"{line['rows']:,} rows, {line['seconds']:.0f} s"
                status.update(f"Materializing {_name(line)}{many}: {rows}")
                continue
            if line["outcome"] == "published":
                published.append(line)
            else:
                say.print(f"{_name(line)}: {line['outcome']}. {line['error']}", markup=False)
            yield line
    if published:
        say.print(_sentence(published), markup=False)


def run_lines(
    settings: Settings, versions: Sequence[Version], options: Sequence[str]
) -> Generator[dict[str, Any], None, None]:
    """The JSON lines of `orchestration.run`: progress and outcomes; an error where it says no outcome.

    Closed early, it ends the run: what is published stays.
    """
    command = python("-m", "orchestration.run", *(v.key for v in versions), *options, "--json")
    told = False
    with (
        tempfile.TemporaryFile() as log,
        Interruptible() as signals,
        spawn(
            command, environment={}, folder=settings.project, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            for text in process.stdout or ():
                line: dict[str, Any] = json.loads(text)
                told |= "outcome" in line
                yield line
            process.wait()
        finally:
            signals.ignore()
            end([process])
        if not told:
            raise click.ClickException(f"The run ended with status {process.returncode}:\n{_end_of(log)}")


def _end_of(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-15:])


def _version(line: dict[str, Any]) -> str:
    return f"{line['endpoint']}@{line['version']}"


def _name(line: dict[str, Any]) -> str:
    """A version, and which of its partitions."""
    from endpoints.lake.manifest import UNPARTITIONED  # brings Arrow, which `--help` must not wait for

    return _version(line) + ("" if line["partition"] in (None, UNPARTITIONED) else f" {line['partition']}")


def _sentence(published: Sequence[dict[str, Any]]) -> str:
    """What of one version is published now, for people."""
    first, last = published[0], published[-1]
    which = f"{_version(first)}: {len(published):,} partitions," if len(published) > 1 else f"{_name(first)}:"
    rows, size = (sum(line[what] for line in published) for what in ("rows", "bytes"))
    return f"{which} {rows:,} rows, {size:,} bytes, snapshot {last['snapshot']}"
