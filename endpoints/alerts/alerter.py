"""One look at everything, and the messages that come of it. Knows nothing of Dagster: the sensor calls it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from endpoints.alerts.conditions import Condition, FailedRun, conditions, tells_nothing_of
from endpoints.alerts.incidents import Incident, News, advance
from endpoints.alerts.journal import Journal, Memory
from endpoints.alerts.message import About, begun, digest, ended
from endpoints.alerts.outbox import Parcel, claimed, parcel, settled
from endpoints.alerts.routes import Routes, read_routes, send, targets_of
from endpoints.callers import CallerBook, Callers, Known
from endpoints.definition import Endpoint, Version
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.settings import Settings

MOST_SINGLE: Final = 5
"""More news than this for the same people, at one look, is one message."""
SECONDS: Final = 25.0
"""For sending, at one look: Dagster gives a sensor's tick a minute."""

Heads = Mapping[tuple[str, int], Manifest]


@dataclass(frozen=True, slots=True)
class Watched:
    """A version and the endpoint that it is of."""

    endpoint: Endpoint
    version: Version

    @property
    def key(self) -> tuple[str, int]:
        return self.version.endpoint, self.version.number


@dataclass(frozen=True, slots=True)
class Told:
    """What one look came to. `undelivered`: one sentence for each message and target that did not get it."""

    begun: int = 0
    ended: int = 0
    sent: int = 0
    undelivered: tuple[str, ...] = ()
    waiting: int = 0
    overtaken: bool = False

    def __str__(self) -> str:
        """For the sensor's tick."""
        if self.overtaken:
            return "Another daemon was looking at the same time: it tells what there is."
        parts = [f"{self.begun} begun, {self.ended} over; {self.sent} messages delivered"]
        parts += [f"{self.waiting} to be tried again"] if self.waiting else []
        return "; ".join([*parts, *self.undelivered]) + "."


class Alerter:
    """Looks at versions, remembers in the lake what has been told, and sends what is new."""

    def __init__(self, watched: Iterable[Watched], lake: Lake, settings: Settings) -> None:
        self._watched = {one.key: one for one in watched}
        self._settings = settings
        self._journal, self._routes = Journal(lake.store), read_routes(settings)
        self._book = CallerBook(lake.store)

    def look(self, heads: Heads, failed_runs: Mapping[tuple[str, int], FailedRun], now: datetime) -> Told:
        """One look: decide what is news, and send it. Raises StoreUnavailable and Corrupt, of the lake alone.

        `failed_runs`: those of Dagster's that failed since the look before.
        """
        number, memory = self._journal.read()
        runs = self._unheard(memory, heads, failed_runs)
        found = [c for one in self._watched.values() for c in self._conditions(one, heads, runs, now)]
        incidents, news = advance(memory.incidents, found, now, self._settings.alerts_quiet)
        outbox, due = claimed([*memory.outbox, *self._parcels(news, now)], now)
        decided = Memory(incidents, outbox, {f"{e}@{v}": run for (e, v), run in runs.items()})
        if decided != memory and not self._journal.append(number, decided):
            return Told(overtaken=True)
        return self._deliver(due, news, now)

    def _unheard(
        self, memory: Memory, heads: Heads, failed_runs: Mapping[tuple[str, int], FailedRun]
    ) -> dict[tuple[str, int], FailedRun]:
        """The failed runs, of now and before, of which the lake knows nothing yet."""
        known = {key: run for key in self._watched if (run := memory.runs.get(f"{key[0]}@{key[1]}"))}
        runs = {key: run for key, run in {**known, **failed_runs}.items() if key in self._watched}
        return {key: run for key, run in runs.items() if tells_nothing_of(heads.get(key), run)}

    def _conditions(
        self, one: Watched, heads: Heads, runs: Mapping[tuple[str, int], FailedRun], now: datetime
    ) -> list[Condition]:
        found = conditions(one.version, heads.get(one.key), now, runs.get(one.key))
        return [c for c in found if c.kind != "sunset" or not _nobody(self._callers(c, now))]

    def _callers(self, condition: Condition, now: datetime) -> Known:
        return self._book.of(condition.endpoint, condition.version, now)

    def _parcels(self, news: News, now: datetime) -> list[Parcel]:
        """The messages of the news, each with its targets; many for the same people become one."""
        groups: dict[tuple[str, ...], tuple[list[Incident], list[Incident]]] = {}
        for which, incidents in enumerate((news.begun, news.ended)):
            for incident in incidents:
                groups.setdefault(self._targets(incident), ([], []))[which].append(incident)
        parcels = []
        for targets, (new, over) in groups.items():
            if not targets:
                continue
            if len(new) + len(over) > MOST_SINGLE:
                parcels.append(parcel(digest(new, over), targets, now))
                continue
            parcels += [parcel(begun(one, self._about(one, now), now), targets, now) for one in new]
            parcels += [parcel(ended(one, self._about(one, now), now), targets, now) for one in over]
        return parcels

    def _targets(self, incident: Incident) -> tuple[str, ...]:
        one = self._watched.get((incident.condition.endpoint, incident.condition.version))
        # Of a version that is gone nobody needs to hear that it is better.
        return tuple(t.id for t in targets_of(self._routes, one.endpoint.alerts)) if one else ()

    def _about(self, incident: Incident, now: datetime) -> About:
        condition = incident.condition
        one = self._watched[condition.endpoint, condition.version]
        return About(one.endpoint.owner, str(self._callers(condition, now)), self._settings.dagster_url)

    def _deliver(self, due: Sequence[Parcel], news: News, now: datetime) -> Told:
        until, sent, said = time.monotonic() + SECONDS, 0, list[str]()
        results: list[tuple[Parcel, tuple[str, ...], bool]] = []
        for one in due:
            in_time = time.monotonic() < until
            left = self._send(one) if in_time else list(one.targets)
            sent += in_time and not left
            said += [f"{self._name(target)} did not take {one.message.title!r}" for target in left if in_time]
            results.append((one, tuple(left), in_time))

        def settle(memory: Memory) -> Memory:
            outbox = memory.outbox
            for one, left, tried in results:
                outbox = settled(outbox, one, left, tried, now)
            return replace(memory, outbox=outbox)

        after = self._journal.update(settle) if results else None
        waiting = len(after.outbox) if after else 0
        return Told(len(news.begun), len(news.ended), sent, tuple(said), waiting)

    def _send(self, one: Parcel) -> list[str]:
        """Send to each target that is still configured; the ids of those that did not take it."""
        targets = {target.id: target for group in self._routes.values() for target in group}
        wanted = [targets[name] for name in one.targets if name in targets]
        return [target.id for target in wanted if not send(target, one.message)]

    def _name(self, target_id: str) -> str:
        found = (t for group in self._routes.values() for t in group if t.id == target_id)
        return str(next(found, target_id))


def _nobody(callers: Known) -> bool:
    return isinstance(callers, Callers) and not callers.keys


def missing_routes(watched: Iterable[Watched], routes: Routes) -> tuple[str, ...]:
    """The names in `alerts:` that ENDPOINTS_ALERTS does not have, sorted."""
    wanted = {name for one in watched for name in one.endpoint.alerts or ()}
    return tuple(sorted(wanted - set(routes)))
