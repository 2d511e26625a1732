"""What is wrong with a version now: from its definition, its newest manifest and the clock. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from endpoints.definition import Version
from endpoints.freshness import Missing, Stale, resting, standing
from endpoints.lake.manifest import Manifest, PartitionFailure
from endpoints.partitions import window
from endpoints.units import show_duration

Kind = Literal["failed", "contract", "parity", "check", "stale", "source", "sunset"]

BROKEN: Final[frozenset[Kind]] = frozenset({"failed", "contract", "parity", "check"})
"""Those of which a version that can be made again is free, all at once."""
SUNSET_DAYS: Final = (30, 7, 1)
"""How long before a sunset its callers' operators are told, each once."""
SOURCE_PREFIX: Final = "source:"
"""What the names of checks of source tables begin with in a manifest; the table's name follows."""
NEVER: Final = timedelta(days=36_500)
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong. `since`: when it began, None where nobody saw; told of after `grace`
    (`NEVER`: not while that holds).

    `about` sets apart several of one kind.
    """

    endpoint: str
    version: int
    kind: Kind
    what: str
    since: datetime | None = None
    run_id: str | None = None
    grace: timedelta = timedelta(0)
    about: str = ""

    @property
    def key(self) -> str:
        """The same for the same thing at every look."""
        return " ".join(filter(None, (f"{self.endpoint}@{self.version}", self.kind, self.about)))


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run of Dagster's that failed: it may have been killed before it could say so in the lake."""

    run_id: str
    at: datetime


def conditions(
    version: Version, manifest: Manifest | None, now: datetime, failed_run: FailedRun | None = None
) -> tuple[Condition, ...]:
    """Everything wrong with a version. One that rests (paused, held, past its sunset) is left in peace."""
    found = list(_sunset(version, now))
    if version.materialize is None or resting(version, manifest, now):
        return tuple(found)
    failed = [*_failures(version, manifest)]
    if not failed and failed_run is not None and tells_nothing_of(manifest, failed_run):
        what = "A run ended without a word: it was killed, or never began."
        which = version.endpoint, version.number
        failed = [Condition(*which, "failed", what, failed_run.at, failed_run.run_id)]
    late = _late(version, manifest and replace(manifest, failures={}), now)
    if failed:  # what fails grows stale for the same reason; what was stale before is not better now
        late = [replace(condition, grace=NEVER) for condition in late]
    return (*found, *failed, *late, *_sources(version, manifest))


def tells_nothing_of(manifest: Manifest | None, run: FailedRun) -> bool:
    """Whether the lake has heard of neither this run's failure nor any attempt after it."""
    if manifest is None:
        return True
    heard = any(failure.run_id == run.run_id for failure in manifest.failures.values())
    return not heard and manifest.created_at <= run.at


def _failures(version: Version, manifest: Manifest | None) -> Iterator[Condition]:
    failures = manifest.failures if manifest else {}
    mine = {key: f for key, f in failures.items() if f.fingerprint == version.fingerprint}
    kinds: dict[Kind, dict[str, PartitionFailure]] = {}
    for key, failure in mine.items():
        kinds.setdefault(_kind(failure), {})[key] = failure
    for kind, failed in kinds.items():
        newest = max(failed.values(), key=lambda f: f.at)
        what = newest.summary or "The run says why."
        if version.materialize is not None and version.materialize.partitions is not None:
            what += f" Partitions: {_named(sorted(failed))}."
        since = min(f.at for f in failed.values())
        yield Condition(version.endpoint, version.number, kind, what, since, newest.run_id)


def _kind(failure: PartitionFailure) -> Kind:
    if failure.outcome == "failed":
        return "failed"
    return "contract" if failure.cause == "run" else failure.cause


def _late(version: Version, manifest: Manifest | None, now: datetime) -> list[Condition]:
    which = version.endpoint, version.number
    where = standing(version, manifest, now, open_partitions(version, now))
    promise = show_duration(version.freshness)
    match where.state:
        case Stale(age):
            what = f"Its rows are older than the {promise} that it promises."
            return [Condition(*which, "stale", what, now - age + version.freshness)]
        case Missing(changed) if where.snapshot is not None and not changed:
            return [Condition(*which, "stale", "Its newest partition has not come.")]
        case Missing() if version.materialize is not None and version.materialize.cron is not None:
            what = "There is no asset of this definition yet."
            return [Condition(*which, "stale", what, grace=version.freshness)]
    return []


def open_partitions(version: Version, now: datetime) -> list[str] | None:
    """The open partitions: those that the promise is about. None means all there are."""
    partitions = version.materialize.partitions if version.materialize else None
    if partitions is None or partitions.start is None:
        return None
    open_, last = [], window(partitions, now)
    for _ in range(max(partitions.refresh, 1)):
        open_.append(last.key)
        last = window(partitions, last.start - timedelta(microseconds=1))
    return open_


def _sources(version: Version, manifest: Manifest | None) -> Iterator[Condition]:
    """Tables that were too old when the newest rows were made."""
    entries = manifest.partitions.values() if manifest else ()
    newest = max(
        (e for e in entries if e.fingerprint == version.fingerprint), key=lambda e: e.as_of, default=None
    )
    for check in newest.checks if newest else ():
        if check.name.startswith(SOURCE_PREFIX) and not check.passed:
            table = check.name.removeprefix(SOURCE_PREFIX)
            what = f"It is made of old data: {table}, {check.detail}."
            run_id = newest.run_id if newest else None
            yield Condition(version.endpoint, version.number, "source", what, None, run_id, about=table)


def _sunset(version: Version, now: datetime) -> Iterator[Condition]:
    if version.sunset is None or version.sunset <= now.date():
        return
    left = (version.sunset - now.date()).days
    stage = min((days for days in SUNSET_DAYS if left <= days), default=None)
    if stage is not None:
        what = f"From {version.sunset} (UTC) on callers who name this version get 410."
        yield Condition(version.endpoint, version.number, "sunset", what, about=str(stage))


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{', '.join(keys[-_NAMED:])}{more}"
