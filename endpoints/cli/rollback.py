"""`endpoints rollback`, `endpoints release`: back to an older snapshot, and on again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, print_json
from endpoints.cli.project import one_version, read_definitions, read_settings

if TYPE_CHECKING:
    from endpoints.lake.manifest import Manifest


@click.command()
@one_version
@click.option("--to", type=int, metavar="SNAPSHOT", help="Its number. [default: the one before]")
@as_json
def rollback(target: str, to: int | None, as_json: bool) -> None:
    """Serve an older snapshot again, at once.

    Its content becomes the newest snapshot, held: it counts as fresh whatever its age, and schedules leave
    the version alone, until `endpoints release` or a run that is asked for. Callers see `reason:
    rolled_back`. Asking again goes one further back.

    \b
    endpoints rollback customer_usage
    endpoints rollback customer_usage@2 --to 41 --json
    """
    from endpoints.lake.publish import Lake
    from endpoints.lake.rollback import roll_back

    settings = read_settings()
    version = read_definitions(settings).version(target)
    done = roll_back(Lake.open(settings), version, to=to)
    if as_json:
        print_json(_line(done))
    else:
        messages().print(
            f"{version.key}: snapshot {done.restored} is served again, as snapshot {done.number}, and held. "
            f"`endpoints release {version.key}` lets schedules go on.",
            markup=False,
        )


@click.command()
@one_version
@as_json
def release(target: str, as_json: bool) -> None:
    """Let schedules and time count again for a version that was rolled back.

    \b
    endpoints release customer_usage
    """
    from endpoints.lake.publish import Lake
    from endpoints.lake.rollback import release as release_version

    settings = read_settings()
    version = read_definitions(settings).version(target)
    done = release_version(Lake.open(settings), version)
    if as_json:
        print_json(_line(done))
    else:
        messages().print(f"{version.key}: released. Its next run publishes new rows.", markup=False)


def _line(done: Manifest) -> dict[str, Any]:
    entries = done.partitions.values()
    return {
        "endpoint": done.endpoint,
        "version": done.version,
        "outcome": done.outcome,
        "snapshot": done.number,
        "restored": done.restored,
        "held": done.held,
        "rows": sum(entry.rows for entry in entries),
        "bytes": sum(entry.bytes for entry in entries),
    }
