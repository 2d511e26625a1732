"""`python -m orchestration.run NAME[@V]`: run a version's real asset, now and in this process.

The run is recorded in the project's Dagster instance like any other, under the code location's job. stdout
holds lines for the caller alone: progress, then one line per partition; logs go to stderr.
Exit status: 0 published, 1 not, 2 wrong use.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO

import dagster as dg
import orjson

from endpoints.choice import chosen
from endpoints.definition import BrokenEndpoint, Definitions, UnknownEndpoint, Version, load_project
from endpoints.errors import FieldError, InputError, LakeError, SettingsError
from endpoints.lake.manifest import UNPARTITIONED
from endpoints.lake.publish import Lake
from endpoints.lake.requests import Requests
from endpoints.settings import Settings, load_settings
from orchestration.asks import BY_TAG, REQUEST_TAG
from orchestration.assets import version_asset
from orchestration.catalog import Listed, listed
from orchestration.home import LOCATION, prepare_home
from orchestration.making import Materialized, Progress
from orchestration.materialize import Unmade
from orchestration.partitions import partitions_of, run_tags
from orchestration.schedules import MATERIALIZE

Line = dict[str, Any]
Say = Callable[[Line], None]

# What Dagster's UI files runs by; the code location's own runs carry the same.
_TAGS = {".dagster/repository": f"__repository__@{LOCATION}", BY_TAG: "terminal"}
_NO_TAGS: Mapping[str, str] = MappingProxyType({})
INTERRUPTED = "The run was interrupted."
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The partitions that someone asks for: by key, from one to another, or as a request in the lake names
    them; nothing is what is due.
    """

    partitions: Sequence[str] | None = None
    first: str | None = None
    last: str | None = None
    request: str | None = None


_DUE = Wanted()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestration.run", description="Materialize versions now."
    )
    parser.add_argument(
        "versions", nargs="*", metavar="NAME[@V]", help="a version; without @V the current one"
    )
    parser.add_argument("--all", action="store_true", help="every version that has `materialize:`")
    parser.add_argument("--partition", action="append", metavar="KEY", help="a partition; may be repeated")
    parser.add_argument("--from", dest="first", metavar="KEY", help="the oldest partition, or a time in it")
    parser.add_argument("--to", dest="last", metavar="KEY", help="the newest partition, or a time in it")
    parser.add_argument("--request", metavar="ID", help="the partitions of a request in the lake")
    parser.add_argument("--json", action="store_true", help="machine output: one JSON object per line")
    asked = parser.parse_args(arguments)
    if bool(asked.versions) == asked.all:
        parser.error("name what to materialize, or say --all")
    wanted = Wanted(asked.partition, asked.first, asked.last, asked.request)
    with _lines_only() as lines:
        try:
            settings = load_settings()
            definitions = load_project(settings)
            versions = [definitions.version(key) for key in asked.versions] or _materialized(definitions)
            targets = [
                listed(definitions.endpoints[version.endpoint], version, definitions.sources)
                for version in versions
            ]
        except (UnknownEndpoint, SettingsError) as error:
            parser.error(str(error))
        except BrokenEndpoint as error:
            print(error, file=sys.stderr)
            return 1

        def say(line: Line) -> None:
            print(orjson.dumps(line).decode() if asked.json else _sentence(line), file=lines, flush=True)

        prepare_home(settings.project)
        with dg.DagsterInstance.get() as instance:
            good = True
            for one in targets:
                outcomes = run(one, settings, instance, say, wanted)
                good &= all(outcome["outcome"] == "published" for outcome in outcomes)
                if any(outcome["error"] == INTERRUPTED for outcome in outcomes):
                    break
    return 0 if good else 1


def run(
    target: Listed,
    settings: Settings,
    instance: dg.DagsterInstance,
    say: Say,
    wanted: Wanted = _DUE,
) -> list[Line]:
    """Materialize one version as a run of `instance`; says progress, then the outcome of each partition, all
    of which it returns.
    """
    version = target.version
    which = {"endpoint": version.endpoint, "version": version.number}
    nothing = dict.fromkeys(("snapshot", "rows", "bytes", "run_id", "error"))
    told: list[Line] = []

    def tell(partition: str | None, **found: Any) -> None:
        told.append({**which, "partition": partition, "outcome": "failed", **nothing, **found})
        say(told[-1])

    def report(version: Version, progress: Progress) -> None:
        said = {"rows": progress.rows, "bytes": progress.bytes, "seconds": round(progress.seconds, 1)}
        at = {"partition": progress.partition, "done": progress.done, "asked": progress.asked}
        say({"event": "progress", **which, **said, **at})

    if target.live_only:
        tell(UNPARTITIONED, error=target.live_only)
        return told
    if partitions_of(version) is None and wanted != _DUE:
        tell(UNPARTITIONED, error=f"{version.key} has no partitions.")
        return told
    # No retries: whoever waits at a terminal would rather hear what is wrong.
    if partitions_of(version) is None:
        asset = version_asset(target, settings, retry=None, report=report)
        tell(UNPARTITIONED, **_whole(_execute(asset, instance)))
        return told
    try:
        keys = _keys(version, settings, wanted)
    except (InputError, LakeError) as error:
        tell(None, error=str(error))
        return told

    def made(outcome: Materialized | Unmade) -> None:
        if isinstance(outcome, Unmade):
            tell(outcome.partition, error=str(outcome.error))
        else:
            entry = outcome.entry
            found = {"snapshot": entry.snapshot, "rows": entry.rows, "bytes": entry.bytes}
            overtaken = {"superseded": True} if outcome.superseded else {}
            tell(outcome.partition, outcome="published", **found, run_id=entry.run_id, **overtaken)

    asset = version_asset(target, settings, retry=None, report=report, only=frozenset(keys), tell=made)
    tags = {REQUEST_TAG: wanted.request} if wanted.request else {}
    result = _execute(asset, instance, {**run_tags(keys[0], keys[-1]), **tags})
    if not result.success and all(line["outcome"] == "published" for line in told):
        tell(keys[len(told)] if len(told) < len(keys) else None, run_id=result.run_id, error=_error(result))
    return told


def _keys(version: Version, settings: Settings, wanted: Wanted) -> tuple[str, ...]:
    """The partitions to make. InputError, LakeError."""
    lake = Lake.open(settings, probe=False)
    if wanted.request is not None:
        request = Requests(lake).find(wanted.request)
        if request is None:
            raise InputError([FieldError("request", "unknown_request", f"There is no {wanted.request}.")])
        return request.partitions
    head = lake.head(version.endpoint, version.number)
    return chosen(
        version,
        head,
        datetime.now(UTC),
        partitions=wanted.partitions,
        first=wanted.first,
        last=wanted.last,
    )


def _execute(
    asset: dg.AssetsDefinition, instance: dg.DagsterInstance, tags: Mapping[str, str] = _NO_TAGS
) -> dg.ExecuteInProcessResult:
    """Run the asset by itself, under the code location's job."""
    alone = dg.Definitions(assets=[asset], jobs=[MATERIALIZE], executor=dg.in_process_executor)
    return alone.resolve_job_def(MATERIALIZE.name).execute_in_process(
        instance=instance,
        asset_selection=[asset.key],
        raise_on_error=False,
        tags={**_TAGS, **tags},
        run_config=_QUIET,
    )


def _whole(result: dg.ExecuteInProcessResult) -> Line:
    """What the events of a run without partitions say of its outcome."""
    if not result.success:
        return {"run_id": result.run_id, "error": _error(result)}
    (event,) = result.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    said = {name: metadata[name].value for name in ("snapshot", "bytes")}
    rows, maker = metadata["dagster/row_count"].value, metadata.get("made by")
    overtaken = {"superseded": True} if metadata["superseded"].value else {}
    run_id = maker.value if maker else result.run_id
    return {"outcome": "published", **said, "rows": rows, "run_id": run_id, **overtaken}


def _error(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.user_failure_data and failure.user_failure_data.description:
                return failure.user_failure_data.description
            if failure.error and failure.error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                return INTERRUPTED
            return failure.error.message.strip() if failure.error else "the step failed"
    return "the run did not start; see its log in Dagster"


def _materialized(definitions: Definitions) -> list[Version]:
    return [version for version in definitions.versions if version.materialize]


def _sentence(line: Line) -> str:
    """A line for people."""
    key = f"{line['endpoint']}@{line['version']}"
    if line.get("partition") not in (None, UNPARTITIONED):
        key += f" {line['partition']}"
    if "outcome" not in line:
        return f"{key}: {line['rows']:,} rows in {line['seconds']} s"
    if line["outcome"] == "published":
        return (
            f"{key}: published {line['rows']:,} rows, {line['bytes']:,} bytes as snapshot {line['snapshot']}"
        )
    return f"{key}: {line['outcome']}. {line['error']}"


@contextmanager
def _lines_only() -> Iterator[TextIO]:
    """stdout as it is; what else writes there (Dagster mirrors what steps print) goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as lines:
        sys.stdout.flush()
        os.dup2(2, 1)
        try:
            yield lines
        finally:
            sys.stdout.flush()
            os.dup2(lines.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main())
