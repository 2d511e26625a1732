"""The sensor `alerts`: looks at every version's newest manifest, and at failed runs, twice a minute.

It tells people what is wrong (`endpoints.alerts`), and keeps Dagster's picture true between runs: the check
`freshness`, since a run only ever says that its asset is fresh, and rollbacks by the command, which asks the
lake alone.
"""

# No `from __future__ import annotations` here: Dagster reads the context's annotation as an object.

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
import orjson

from endpoints.alerts.alerter import Alerter, Watched, missing_routes
from endpoints.alerts.conditions import FailedRun, open_partitions
from endpoints.alerts.routes import read_routes
from endpoints.errors import LakeError
from endpoints.freshness import Fresh, standing
from endpoints.lake.follow import Follower
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from orchestration.asks import WILL_RETRY_TAG
from orchestration.assets import asset_key
from orchestration.catalog import Listed
from orchestration.checks import FRESHNESS_CHECK, freshness_verdict
from orchestration.rollback import observation

NAME: Final = "alerts"
EVERY_SECONDS: Final = 30
_FIRST_LOOK_BACK: Final = timedelta(hours=1)
_RUNS: Final = 500  # of one look; the next one goes on
_EVENTS: Final = 200

Key = tuple[str, int]
_Event = dg.AssetCheckEvaluation | dg.AssetObservation


@dataclass(slots=True)
class _Cursor:
    """What this Dagster instance has seen: runs until then, versions that were not fresh, in words, and the
    snapshots that held ones were rolled back to.
    """

    runs_until: datetime
    states: dict[str, str] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None, now: datetime) -> "_Cursor":
        try:
            raw = orjson.loads(text or "")
            since = datetime.fromisoformat(raw["runs_until"])
            return cls(since, dict(raw["states"]), dict(raw.get("held", {})))
        except (ValueError, KeyError, TypeError):
            return cls(now - _FIRST_LOOK_BACK)

    def text(self) -> str:
        seen = {"runs_until": self.runs_until, "states": self.states, "held": self.held}
        return orjson.dumps(seen).decode()


class _Watch:
    """The lake as the sensor sees it, kept from tick to tick: only what changed is read again."""

    def __init__(self, versions: Sequence[Listed], settings: Settings) -> None:
        self._watched = [Watched(one.endpoint, one.version) for one in versions]
        self.assets = [one.version for one in versions if one.live_only is None]
        self.settings = settings
        self.lock = threading.Lock()
        self._opened: tuple[Follower, Alerter] | None = None
        self.unknown = missing_routes(self._watched, read_routes(settings)) if settings.alerts else ()

    def look(self) -> tuple[dict[Key, Manifest], Alerter]:
        """The newest manifests, by version. StoreUnavailable."""
        if self._opened is None:
            lake = Lake.open(self.settings, probe=False)
            follower = Follower(lake)
            follower.watch((version.endpoint, version.number) for version in self.assets)
            self._opened = follower, Alerter(self._watched, lake, self.settings)
        follower, alerter = self._opened
        follower.refresh()
        keys = ((version.endpoint, version.number) for version in self.assets)
        return {key: found for key in keys if (found := follower.manifest(*key))}, alerter


def alert_sensor(versions: Sequence[Listed], settings: Settings) -> dg.SensorDefinition:
    """The sensor, running by default. Nothing is opened before its first tick."""
    watch = _Watch(versions, settings)

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells what is stale, failed, broken or recovered; keeps the check `freshness` true, and "
        "shows rollbacks by the command.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        with watch.lock:
            return _tick(context, watch, datetime.now(UTC))

    return alerts


def _tick(context: dg.SensorEvaluationContext, watch: _Watch, now: datetime) -> dg.SensorResult:
    cursor = _Cursor.read(context.cursor, now)
    try:
        heads, alerter = watch.look()
        events: list[_Event] = [
            *_freshness_events(watch, heads, cursor, now),
            *_rollback_events(watch, heads, cursor),
        ]
        if not watch.settings.alerts:
            return _result(cursor, "ENDPOINTS_ALERTS is not set: nobody is told.", events)
        failed, until = _failed_runs(context.instance, cursor.runs_until, now)
        told = alerter.look(heads, failed, now)
    except LakeError as error:
        context.log.error(f"The lake does not answer: {error}")
        return dg.SensorResult(
            skip_reason="The lake does not answer; nobody was told.", cursor=context.cursor
        )
    if not told.overtaken:
        cursor.runs_until = until
    for sentence in told.undelivered:
        context.log.warning(sentence)
    unknown = f" Not in ENDPOINTS_ALERTS: {', '.join(watch.unknown)}." if watch.unknown else ""
    return _result(cursor, f"{told}{unknown}", events)


def _result(cursor: _Cursor, said: str, events: Sequence[_Event]) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=said, asset_events=events, cursor=cursor.text())


def _freshness_events(
    watch: _Watch, heads: Mapping[Key, Manifest], cursor: _Cursor, now: datetime
) -> Iterator[dg.AssetCheckEvaluation]:
    """The check `freshness` of each version whose state is another than at the look before."""
    sent = 0
    for version in watch.assets:
        manifest = heads.get((version.endpoint, version.number))
        if manifest is None or sent == _EVENTS:
            continue
        touched = open_partitions(version, now)
        touched = None if touched is None else [*touched, *manifest.failures]
        state = standing(version, manifest, now, touched).state
        if state.word == cursor.states.get(version.key, Fresh.word):
            continue
        sent += 1
        if isinstance(state, Fresh):
            del cursor.states[version.key]
        else:
            cursor.states[version.key] = state.word
        passed, severity, metadata = freshness_verdict(version, state)
        yield dg.AssetCheckEvaluation(
            asset_key=asset_key(version.endpoint, version.number),
            check_name=FRESHNESS_CHECK,
            passed=passed,
            severity=severity,
            metadata={name: dg.MetadataValue.text(text) for name, text in metadata.items()},
        )


def _rollback_events(
    watch: _Watch, heads: Mapping[Key, Manifest], cursor: _Cursor
) -> Iterator[dg.AssetObservation]:
    """Versions that somebody rolled back or released since the look before, but not by a run, which says so
    itself.
    """
    for version in watch.assets:
        head = heads.get((version.endpoint, version.number))
        restored = head.restored if head is not None and head.held else None
        if head is None or restored == cursor.held.get(version.key):
            continue
        if restored is None:
            del cursor.held[version.key]
        else:
            cursor.held[version.key] = restored
        if head.outcome in ("rolled_back", "released") and not head.run_id:
            yield observation(head)


def _failed_runs(
    instance: dg.DagsterInstance, since: datetime, now: datetime
) -> tuple[dict[Key, FailedRun], datetime]:
    """The newest failed run of each version since then, and until when runs have been looked at."""
    records = instance.get_run_records(
        filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since),
        limit=_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    found: dict[Key, FailedRun] = {}
    for record in records:
        run = record.dagster_run
        if run.tags.get(WILL_RETRY_TAG) == "true":
            continue
        at = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else now
        for key in run.asset_selection or ():
            match key.path:
                case ["endpoints", endpoint, number] if number[1:].isdecimal():
                    found[endpoint, int(number[1:])] = FailedRun(run.run_id, at)
    until = max((record.update_timestamp for record in records), default=since)
    return found, until if until.tzinfo else until.replace(tzinfo=UTC)
