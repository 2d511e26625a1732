"""When each key was last used: noted in memory per request, written together now and then.

    _used/<process>.json     {"<key id>": "<time>", …}, overwritten by the process that made it

Losing the last minute is no harm, and a store that takes no writes neither: this is for people who wonder
whether a key may go, never for a decision on a request.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import orjson

from endpoints.lake.store import Store

FOLDER = "_used"
ABANDONED = timedelta(hours=1)  # a process writes at least this often while anyone calls


class LastUsed:
    """The times in one store. Methods can raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own = f"{FOLDER}/{secrets.token_hex(8)}.json"

    def read(self) -> dict[str, datetime]:
        """By the id of the key, as far as any process has written it."""
        return self._merge([found.key for found in self._store.list(FOLDER)])

    def write(self, times: Mapping[str, float], now: datetime) -> None:
        """Keep what this process knows (Unix seconds by key) and what processes that are gone wrote."""
        gone = [
            found.key
            for found in self._store.list(FOLDER)
            if found.key != self._own and now - found.modified > ABANDONED
        ]
        merged = self._merge(gone)
        for key_id, at in times.items():
            moment = datetime.fromtimestamp(at, UTC)
            merged[key_id] = max(moment, merged.get(key_id, moment))
        self._store.put(self._own, orjson.dumps(merged))
        for key in gone:  # a process that only slept writes all of its own again
            self._store.delete(key)

    def _merge(self, keys: list[str]) -> dict[str, datetime]:
        merged: dict[str, datetime] = {}
        for key in keys:
            for key_id, at in _times(self._store.get(key) or b"{}").items():
                merged[key_id] = max(at, merged.get(key_id, at))
        return merged


def _times(body: bytes) -> dict[str, datetime]:
    try:
        return {str(key_id): datetime.fromisoformat(at) for key_id, at in orjson.loads(body).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
