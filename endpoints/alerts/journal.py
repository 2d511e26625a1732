"""What alerts must remember, in the lake: `_alerts/<20 digits>.json`, numbered, each created only if absent.

Whoever creates the next number has decided what to tell, and tells it: of two daemons that look at the same
time one loses, and looks again later. Restarts lose nothing, and nothing is written while nothing changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from endpoints.alerts.conditions import Condition, FailedRun
from endpoints.alerts.incidents import Incident, Incidents
from endpoints.alerts.message import Message
from endpoints.alerts.outbox import Parcel
from endpoints.errors import Corrupt, StoreUnavailable
from endpoints.lake.layout import ALERTS
from endpoints.lake.store import Store

FORMAT: Final = 1
KEPT: Final = 20
# A number may not be used again while somebody could still take it for the next one; that takes seconds.
KEPT_FOR: Final = timedelta(hours=1)
TRIES: Final = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Memory:
    """Incidents, messages on their way, and runs that failed without a word, by `name@version`."""

    incidents: Incidents = field(default_factory=Incidents)
    outbox: tuple[Parcel, ...] = ()
    runs: Mapping[str, FailedRun] = field(default_factory=dict)


class Journal:
    """The memories in a store, newest last."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> tuple[int, Memory]:
        """The newest memory and its number; 0 and an empty one where there is none.

        One that cannot be read is forgotten: to tell again is better than to be silent for ever.
        """
        number = max((_number(found.key) for found in self._store.list(ALERTS)), default=0)
        body = self._store.get(_key(number)) if number else None
        try:
            return number, Memory() if body is None else _decode(body, _key(number))
        except Corrupt as error:
            log.error("what was alerted of is forgotten: %s", error)
            return number, Memory()

    def append(self, number: int, memory: Memory) -> bool:
        """Creates number + 1; False where somebody else has."""
        if not self._store.put_new(_key(number + 1), _encode(memory)):
            return False
        self._sweep(number + 1)
        return True

    def update(self, change: Callable[[Memory], Memory]) -> Memory:
        """Changes the newest memory, whoever else does as well. StoreUnavailable if that never succeeds."""
        for _ in range(TRIES):
            number, memory = self.read()
            changed = change(memory)
            if changed == memory or self.append(number, changed):
                return changed
        raise StoreUnavailable(f"{ALERTS}: no number could be had in {TRIES} tries")

    def _sweep(self, newest: int) -> None:
        if newest % KEPT:
            return
        old = datetime.now(UTC) - KEPT_FOR
        for found in list(self._store.list(ALERTS)):
            if _number(found.key) <= newest - KEPT and found.modified < old:
                self._store.delete(found.key)


def _key(number: int) -> str:
    return f"{ALERTS}/{number:020}.json"


def _number(key: str) -> int:
    stem = key.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdecimal() else 0


def _encode(memory: Memory) -> bytes:
    """orjson writes times as ISO 8601; durations become seconds."""
    return orjson.dumps(
        {"format": FORMAT, **asdict(memory)},
        default=lambda value: value.total_seconds(),
        option=orjson.OPT_SORT_KEYS,
    )


def _decode(body: bytes, key: str) -> Memory:
    try:
        raw = orjson.loads(body)
        if raw["format"] != FORMAT:
            raise Corrupt(key, f"is of format {raw['format']!r}; this release reads format {FORMAT}")
        incidents = raw["incidents"]
        return Memory(
            Incidents(
                {name: _incident(one) for name, one in incidents["open"].items()},
                {name: _time(at) for name, at in incidents["over"].items()},
            ),
            tuple(_parcel(one) for one in raw["outbox"]),
            {name: FailedRun(run["run_id"], _time(run["at"])) for name, run in raw["runs"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corrupt(key, f"is not a memory of alerts: {error!r}") from error


def _incident(raw: dict[str, Any]) -> Incident:
    known = {one.name for one in fields(Condition)}
    condition = {name: value for name, value in raw["condition"].items() if name in known}
    condition |= {"since": _maybe(condition["since"]), "grace": timedelta(seconds=condition["grace"])}
    return Incident(Condition(**condition), _time(raw["seen"]), _maybe(raw["told"]))


def _parcel(raw: dict[str, Any]) -> Parcel:
    return Parcel(
        raw["id"],
        Message(**raw["message"]),
        tuple(raw["targets"]),
        _time(raw["made"]),
        _time(raw["next_try"]),
        raw["tries"],
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _maybe(text: str | None) -> datetime | None:
    return None if text is None else _time(text)
