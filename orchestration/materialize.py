"""A materialization: of everything, or of the partitions that are asked for, one after another.

How one is made is in `making.py`. Knows nothing of Dagster: `assets.py` turns what happens into its events.
Nothing a reader can see changes before it is published; every attempt ends as a manifest, a failed one too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from endpoints.definition import Partitions, Source, Version
from endpoints.errors import (
    CheckBreach,
    ContractBreach,
    EndpointsError,
    StoreUnavailable,
    WarehouseUnavailable,
)
from endpoints.lake.manifest import UNPARTITIONED, FailedOutcome, Manifest
from endpoints.lake.publish import Attempt, Lake
from endpoints.partitions import keys
from endpoints.query.slices import Bounds, partition_bounds
from endpoints.settings import Settings
from endpoints.warehouse.protocol import Warehouse
from orchestration.causes import cause_of
from orchestration.making import Made, Making, Materialized, NotMaterializable, QueryRefused, Watch, paced
from orchestration.parity import ParityBreach

BATCH = 50
"""Partitions that are published together, at most: a manifest of its own for each would be one in two
objects."""
BATCH_SECONDS = 20.0
COMPARED_PARTITIONS = 4
"""Of one run's partitions, so many are compared with live answers: one plan makes them all."""

log = logging.getLogger(__name__)


class NoSuchPartition(EndpointsError):
    """A key that names no partition of the version, or one that has not begun."""


@dataclass(frozen=True, slots=True)
class Unmade:
    """A partition whose run failed: `error` says why, and its failure is in the newest manifest."""

    partition: str
    error: EndpointsError


Tell = Callable[["Materialized | Unmade"], None]


def materialize(
    version: Version,
    warehouse: Warehouse,
    lake: Lake,
    settings: Settings,
    *,
    run_id: str,
    sources: Sequence[Source] = (),
    watch: Watch = lambda progress: None,
) -> Materialized:
    """Run the version's query, hold its rows to the contract and its answers to live's, and publish them.

    `sources` are asked for their newest row first. Raises NotMaterializable, ContractBreach, ParityBreach,
    CheckBreach, a WarehouseError (AssetTooLarge where there are more rows than allowed) or a LakeError; the
    asset that was there stays.
    """
    run = Making(version, warehouse, lake, settings, run_id, (UNPARTITIONED,), sources, paced(watch))
    with _recorded(run.attempt):
        run.prepare()
        made = run.make(UNPARTITIONED, {}, most=run.most, compared=True)
        return run.publish({UNPARTITIONED: made}, None)[0]


def materialize_partitions(
    version: Version,
    warehouse: Warehouse,
    lake: Lake,
    settings: Settings,
    *,
    run_id: str,
    partitions: Sequence[str],
    sources: Sequence[Source] = (),
    watch: Watch = lambda progress: None,
    tell: Tell = lambda outcome: None,
) -> list[Materialized | Unmade]:
    """Run the query of each partition for its slice alone; publish those that are good, some at a time.

    A partition that fails keeps its old data and becomes a failure in the manifest; the others go on. `tell`
    hears of each outcome as soon as the manifest says so. What another try of the same run has published is
    not made again. Raises what `materialize` raises where no partition could be any better: NoSuchPartition,
    NotMaterializable, WarehouseUnavailable, StoreUnavailable.
    """
    return _Partitions(
        Making(version, warehouse, lake, settings, run_id, tuple(partitions), sources, paced(watch)), tell
    ).materialize()


@contextmanager
def _recorded(attempt: Attempt, *tried: str) -> Iterator[None]:
    """However the block ends but well, the attempt ends as a manifest that says so of the partitions tried
    (default: all); the error goes on.
    """
    try:
        yield
    except BaseException as error:  # an interrupted run is a failed attempt as well
        try:
            _fail(attempt, error, tried or attempt.partitions)
        except EndpointsError:
            log.exception("the failure of attempt %s could not be recorded", attempt.attempt_id)
        raise


def _fail(attempt: Attempt, error: BaseException, partitions: Sequence[str]) -> Manifest:
    breached = isinstance(error, ContractBreach | ParityBreach | CheckBreach)
    unservable = isinstance(error, NotMaterializable) and not isinstance(error, QueryRefused)
    outcome: FailedOutcome = "breached" if breached else "failed"
    cause, summary = cause_of(error)
    return attempt.fail(
        outcome, _sentence(error), partitions, unservable=unservable, cause=cause, summary=summary
    )


def _sentence(error: BaseException) -> str:
    if not isinstance(error, Exception):
        return "The run was interrupted."
    return str(error) if isinstance(error, EndpointsError) else f"{type(error).__name__}: {error}"


class _Partitions:
    """The partitions of one run: each is made by itself, and published with those beside it."""

    def __init__(self, run: Making, tell: Tell) -> None:
        self._run, self._tell = run, tell
        self._now = datetime.now(UTC)
        self._asked = run.attempt.partitions
        self._waiting: dict[str, Made] = {}
        self._failed: dict[str, EndpointsError] = {}
        self._outcomes: list[Materialized | Unmade] = []
        self._flushed = time.monotonic()

    def materialize(self) -> list[Materialized | Unmade]:
        run = self._run
        with _recorded(run.attempt):
            every = self._bounds()
            run.prepare()
        left = [key for key in self._asked if not self._is_done(key)]
        compared = _spread(left, COMPARED_PARTITIONS)
        try:
            for number, key in enumerate(left):
                with _recorded(run.attempt, key):
                    self._one(key, every[key], number + len(self._asked) - len(left), key in compared)
                if len(self._waiting) + len(self._failed) >= BATCH or self._seconds() > BATCH_SECONDS:
                    self._flush()
        finally:
            self._flush()  # what was good before an interruption, too
        return self._outcomes

    def _bounds(self) -> dict[str, Bounds]:
        """The bounds of each slice. NoSuchPartition."""
        version = self._run.version
        found = {key: partition_bounds(self._partitions, key, self._now) for key in self._asked}
        for key, bounds in found.items():
            if bounds is None:
                raise NoSuchPartition(f"{version.key} has no partition {key}, or not yet.")
        return {key: bounds for key, bounds in found.items() if bounds is not None}

    @property
    def _partitions(self) -> Partitions:
        materialize = self._run.version.materialize
        assert materialize is not None
        assert materialize.partitions is not None, "the plan is sliced"
        return materialize.partitions

    def _is_done(self, key: str) -> bool:
        """An earlier try of this very run has published it."""
        entry = self._run.head.partitions.get(key) if self._run.head else None
        return (
            entry is not None
            and entry.run_id == self._run.attempt.run_id
            and entry.fingerprint == self._run.version.fingerprint
        )

    def _one(self, key: str, bounds: Bounds, done: int, compared: bool) -> None:
        """Make one partition; what is wrong with it alone is kept for its failure."""
        run = self._run
        try:
            most = run.most - self._rows_beside({key})
            made = run.make(key, bounds, most=most, compared=compared, done=done)
        except (WarehouseUnavailable, StoreUnavailable):
            raise  # the next one would fail as well
        except EndpointsError as error:
            log.warning("%s %s: %s", run.version.key, key, error)
            self._failed[key] = error
        else:
            self._waiting[key] = made

    def _rows_beside(self, keys: Collection[str]) -> int:
        """Rows of all partitions of this definition but these."""
        published = self._run.head.partitions if self._run.head else {}
        fingerprint = self._run.version.fingerprint
        rows = {key: e.rows for key, e in published.items() if e.fingerprint == fingerprint}
        rows |= {key: made.entry.rows for key, made in self._waiting.items()}
        return sum(count for key, count in rows.items() if key not in keys)

    def _flush(self) -> None:
        """Publish what is good, record what failed, and tell."""
        run, made = self._run, self._waiting
        self._waiting, self._flushed = {}, time.monotonic()
        if made and (breach := self._rows_breach(made)) is not None:
            self._failed |= dict.fromkeys(made, breach)
            made = {}
        if made:
            self._said(run.publish(made, self._existing()))
        failed, self._failed = self._failed, {}
        for error in {id(error): error for error in failed.values()}.values():
            keys = [key for key, own in failed.items() if own is error]
            run.head = _fail(run.attempt, error, keys)
            self._said(Unmade(key, error) for key in keys)

    def _said(self, outcomes: Iterable[Materialized | Unmade]) -> None:
        for outcome in outcomes:
            self._outcomes.append(outcome)
            self._tell(outcome)

    def _existing(self) -> frozenset[str]:
        return frozenset(keys(self._partitions, self._now) or ())

    def _rows_breach(self, made: Mapping[str, Made]) -> ContractBreach | None:
        """`rows:` of the contract are of the whole asset: there are too few only once it is complete."""
        from endpoints.contract import row_failures

        run, contract = self._run, self._run.version.contract
        if contract is None or (contract.rows_min is None and contract.rows_max is None):
            return None
        rows = self._rows_beside(made) + sum(one.entry.rows for one in made.values())
        published = run.head.partitions if run.head else {}
        own = {key for key, e in published.items() if e.fingerprint == run.version.fingerprint}
        if self._existing() - own - set(made):
            contract = replace(contract, rows_min=None)
        failures = tuple(row_failures(contract, rows))
        return ContractBreach(failures) if failures else None

    def _seconds(self) -> float:
        return time.monotonic() - self._flushed


def _spread(keys: Sequence[str], wanted: int) -> frozenset[str]:
    """Some of the keys, evenly, the last one among them."""
    step = max(1, -(-len(keys) // wanted))
    return frozenset(keys[::-1][::step])
