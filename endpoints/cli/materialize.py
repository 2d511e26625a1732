"""`endpoints materialize`: run a version's Dagster asset now."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, print_json
from endpoints.cli.processes import end, python, spawn
from endpoints.cli.project import choose, read_definitions, read_settings, some_versions
from endpoints.cli.serve import dagster_home

if TYPE_CHECKING:
    from rich.console import Console

    from endpoints.definition import Version
    from endpoints.settings import Settings


@click.command()
@some_versions
@click.option("--all", "everything", is_flag=True, help="Every version that has `materialize:`.")
@as_json
def materialize(targets: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Publish a version's rows, through its Dagster asset.

    The run shows in Dagster. Rows that break the contract are not published, and what was there stays.

    \b
    endpoints materialize customer_usage
    endpoints materialize customer_usage@1 landing_stats --json
    """
    if bool(targets) == everything:
        raise click.UsageError("Name what to materialize, or say --all.")
    settings = read_settings()
    versions = choose(read_definitions(settings), targets)
    if everything:
        versions = [version for version in versions if version.materialize]
    failed = False
    for outcome in materialize_versions(messages(), settings, versions):
        failed |= outcome["outcome"] != "published"
        if as_json:
            print_json(outcome)
    raise SystemExit(1 if failed else 0)


def materialize_versions(
    say: Console, settings: Settings, versions: Sequence[Version]
) -> Iterator[dict[str, Any]]:
    """Run each version's asset in turn; yield an outcome per partition, as `--json` prints it."""
    for version in versions:
        with say.status(f"Materializing {version.key}") as status:
            for line in _run(settings, version):
                if "outcome" not in line:
                    status.update(f"Materializing {version.key}: {_describe(line)}")
                    continue
                say.print(_sentence(version, line), markup=False)
                yield line


def _run(settings: Settings, version: Version) -> Iterator[dict[str, Any]]:
    """The JSON lines of `orchestration.run`: progress, then outcomes. At least one outcome."""
    command = python("-m", "orchestration.run", version.key, "--json")
    home = dagster_home(settings.project)
    ended = False
    with tempfile.TemporaryFile() as log:
        with spawn(
            command, environment=home, folder=settings.project, stdout=subprocess.PIPE, stderr=log
        ) as process:
            try:
                for text in process.stdout or ():
                    line: dict[str, Any] = json.loads(text)
                    ended |= "outcome" in line
                    yield line
                process.wait()
            finally:
                end([process])
        if not ended:
            raise click.ClickException(
                f"The run of {version.key} ended with status {process.returncode}:\n{_end_of(log)}"
            )


def _end_of(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-15:])


def _sentence(version: Version, outcome: dict[str, Any]) -> str:
    """An outcome, for people."""
    if outcome["outcome"] != "published":
        return f"{version.key}: {outcome['outcome']}. {outcome['error']}"
    return f"{version.key}: {outcome['rows']:,} rows, {outcome['bytes']:,} bytes, snapshot {outcome['snapshot']}"
