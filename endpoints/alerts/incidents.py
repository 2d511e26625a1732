"""What of all that is wrong is new, is over, or has been told. Pure: any history can be tried.

Each thing is told once when it begins and once when it is over, however often it is looked at. One that comes
back soon after it was told of waits until the quiet period is over, and is told only if it is still there: a
version that fails and recovers all day sends two messages per quiet period, not hundreds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from endpoints.alerts.conditions import BROKEN, Condition


@dataclass(frozen=True, slots=True)
class Incident:
    """A condition, first `seen` and `told` of at these times; None: nobody has been told yet."""

    condition: Condition
    seen: datetime
    told: datetime | None = None

    @property
    def since(self) -> datetime:
        """When it began, as far as anybody knows."""
        return self.condition.since or self.seen


@dataclass(frozen=True, slots=True)
class Incidents:
    """Those that go on, by key, and when those that are over were last told of (for the quiet period)."""

    open: Mapping[str, Incident] = field(default_factory=dict)
    over: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told: what has begun, and what is over."""

    begun: tuple[Incident, ...] = ()
    ended: tuple[Incident, ...] = ()


def advance(
    before: Incidents, conditions: Iterable[Condition], now: datetime, quiet: timedelta
) -> tuple[Incidents, News]:
    """The incidents after a look at everything, and what to tell of it."""
    found = {condition.key: condition for condition in conditions}
    open_, begun = {}, []
    for key, condition in found.items():
        incident = _seen_again(before.open.get(key), condition, now)
        last = before.over.get(key)
        waits = now - incident.seen < condition.grace or (last is not None and now - last < quiet)
        if incident.told is None and not waits:
            incident = replace(incident, told=now)
            begun.append(incident)
        open_[key] = incident
    gone = [incident for key, incident in before.open.items() if key not in found]
    told = [incident for incident in gone if incident.told is not None]
    over = {key: at for key, at in before.over.items() if now - at < quiet}
    over |= {incident.condition.key: incident.told for incident in told if incident.told is not None}
    ended = tuple(incident for incident in told if _is_over(incident.condition, found.values()))
    return Incidents(open_, over), News(tuple(begun), ended)


def _is_over(condition: Condition, found: Iterable[Condition]) -> bool:
    """Whether that it is gone is good news: not of a sunset, nor where it is broken in another way now."""
    if condition.kind == "sunset":
        return False
    which = condition.endpoint, condition.version
    broken = {(one.endpoint, one.version) for one in found if one.kind in BROKEN}
    return condition.kind not in BROKEN or which not in broken


def _seen_again(known: Incident | None, condition: Condition, now: datetime) -> Incident:
    """What is known of it, with what is new; it began when it was first said to."""
    if known is None:
        return Incident(condition, now)
    since = known.condition.since or condition.since
    if known.told is not None:  # what has been told stays as it was told
        return known
    return replace(known, condition=replace(condition, since=since))
