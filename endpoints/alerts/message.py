"""One clear message: endpoint, version, what, since when, who calls it, where to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from endpoints.alerts.conditions import Kind
from endpoints.alerts.incidents import Incident

Level = Literal["failure", "warning", "success", "info"]

_WORDS: Final[Mapping[Kind, str]] = {
    "failed": "failed",
    "contract": "contract broken",
    "parity": "parity broken",
    "check": "check broken",
    "stale": "stale",
    "source": "dead source",
    "sunset": "sunset is near",
}
_WARNINGS: Final = frozenset({"stale", "source", "sunset"})
MOST_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. `level` chooses the colour or the icon."""

    title: str
    body: str
    level: Level


@dataclass(frozen=True, slots=True)
class About:
    """What a message says beside the incident: whom it concerns, and where to look."""

    owner: str | None
    callers: str
    dagster_url: str


def begun(incident: Incident, about: About, now: datetime) -> Message:
    """The message of something that has begun."""
    condition = incident.condition
    which = f"{condition.endpoint}@{condition.version}"
    level: Level = "warning" if condition.kind in _WARNINGS else "failure"
    return Message(f"{which}: {_WORDS[condition.kind]}", _body(condition.what, incident, about, now), level)


def ended(incident: Incident, about: About, now: datetime) -> Message:
    """The message of something that is over."""
    condition = incident.condition
    which, word = f"{condition.endpoint}@{condition.version}", _WORDS[condition.kind]
    what = f"No longer {word}, after {_length(now - incident.since)}."
    return Message(f"{which}: recovered ({word})", _body(what, incident, about, now), "success")


def digest(begun_: Sequence[Incident], ended_: Sequence[Incident]) -> Message:
    """One message of many: what they have in common is likely one cause."""
    counts: dict[str, int] = {}
    lines = []
    for incidents, form in ((begun_, "{}"), (ended_, "recovered ({})")):
        for incident in incidents:
            condition, word = incident.condition, form.format(_WORDS[incident.condition.kind])
            counts[word] = counts.get(word, 0) + 1
            lines.append(f"{condition.endpoint}@{condition.version}: {word}. {condition.what}")
    more = [f"… and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []
    title = ", ".join(f"{count} {word}" for word, count in counts.items())
    level: Level = "success" if not begun_ else "failure"
    return Message(f"Endpoints: {title}", "\n".join([*lines[:MOST_LISTED], *more]), level)


def _body(what: str, incident: Incident, about: About, now: datetime) -> str:
    condition = incident.condition
    lines = [
        what,
        f"Endpoint: {condition.endpoint}, version {condition.version}",
        f"Since: {_moment(incident.since)} ({_length(now - incident.since)})",
        f"Called by: {about.callers}",
    ]
    lines += [f"Owner: {about.owner}"] if about.owner else []
    lines.append(f"See: {_link(about.dagster_url, condition.endpoint, condition.version, condition.run_id)}")
    return "\n".join(lines)


def _link(base: str, endpoint: str, version: int, run_id: str | None) -> str:
    """The run in Dagster's UI, or the asset where no run is to blame; without a password in it."""
    parts = urlsplit(base)
    root = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
    if run_id:
        return f"{root}/runs/{quote(run_id, safe='')}"
    return f"{root}/assets/endpoints/{quote(endpoint, safe='')}/v{version}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _length(time: timedelta) -> str:
    minutes = max(int(time.total_seconds() // 60), 0)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
