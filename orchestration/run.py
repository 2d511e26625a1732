"""`python -m orchestration.run NAME[@V]`: run a version's real asset, now and in this process.

The run is recorded in the project's Dagster instance like any other, under the code location's job. stdout
holds lines for the caller alone: progress, then one line per partition; logs go to stderr.
Exit status: 0 published, 1 not, 2 wrong use.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import dagster as dg
import orjson

from endpoints.definition import BrokenEndpoint, Definitions, UnknownEndpoint, Version, load_project
from endpoints.errors import SettingsError
from endpoints.lake.manifest import UNPARTITIONED
from endpoints.settings import Settings, load_settings
from orchestration.assets import version_asset
from orchestration.catalog import Listed, listed
from orchestration.home import LOCATION, prepare_home
from orchestration.materialize import Progress
from orchestration.schedules import MATERIALIZE

Line = dict[str, Any]
Say = Callable[[Line], None]

# What Dagster's UI files runs by; the code location's own runs carry the same.
_TAGS = {".dagster/repository": f"__repository__@{LOCATION}"}
INTERRUPTED = "The run was interrupted."
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestration.run", description="Materialize versions now."
    )
    parser.add_argument(
        "versions", nargs="*", metavar="NAME[@V]", help="a version; without @V the current one"
    )
    parser.add_argument("--all", action="store_true", help="every version that has `materialize:`")
    parser.add_argument("--json", action="store_true", help="machine output: one JSON object per line")
    asked = parser.parse_args(arguments)
    if bool(asked.versions) == asked.all:
        parser.error("name what to materialize, or say --all")
    with _lines_only() as lines:
        try:
            settings = load_settings()
            definitions = load_project(settings)
            versions = [definitions.version(key) for key in asked.versions] or _materialized(definitions)
            chosen = [
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
            for one in chosen:
                outcome = run(one, settings, instance, say)
                good &= outcome["outcome"] == "published"
                if outcome["error"] == INTERRUPTED:
                    break
    return 0 if good else 1


def run(chosen: Listed, settings: Settings, instance: dg.DagsterInstance, say: Say) -> Line:
    """Materialize one version as a run of `instance`; says progress, then the outcome, which it returns."""
    version = chosen.version
    which = {"endpoint": version.endpoint, "version": version.number}
    outcome = {**which, "partition": UNPARTITIONED, "outcome": "failed"}
    outcome |= dict.fromkeys(("snapshot", "rows", "bytes", "run_id", "error"))
    if chosen.live_only:
        outcome["error"] = chosen.live_only
    else:

        def report(version: Version, progress: Progress) -> None:
            said = {"rows": progress.rows, "bytes": progress.bytes, "seconds": round(progress.seconds, 1)}
            say({"event": "progress", **which, **said})

        # No retries: whoever waits at a terminal would rather hear what is wrong.
        asset = version_asset(chosen, settings, retry=None, report=report)
        outcome |= _execute(asset, instance)
    say(outcome)
    return outcome


def _execute(asset: dg.AssetsDefinition, instance: dg.DagsterInstance) -> Line:
    """Run the asset by itself, under the code location's job; what its events say of the outcome."""
    alone = dg.Definitions(assets=[asset], jobs=[MATERIALIZE], executor=dg.in_process_executor)
    result = alone.resolve_job_def(MATERIALIZE.name).execute_in_process(
        instance=instance, asset_selection=[asset.key], raise_on_error=False, tags=_TAGS, run_config=_QUIET
    )
    if not result.success:
        return {"run_id": result.run_id, "error": _error(result)}
    (event,) = result.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    said = {name: metadata[name].value for name in ("snapshot", "bytes")}
    return {
        "outcome": "published",
        **said,
        "rows": metadata["dagster/row_count"].value,
        "run_id": result.run_id,
    }


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
