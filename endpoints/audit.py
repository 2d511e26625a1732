"""Who changed which key and when: one object in the store per change, created once and never touched again.

    _audit/<time>-<n>-<random>.json     {"entry": {"at", "who", "what", "key", "name", …}, "signature"}

Entries are signed like the records of keys, so that one which somebody without the
secret wrote shows. They hold rights and names, never a secret or the value of a pin.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import itertools
import logging
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from endpoints.lake.store import Store

FOLDER = "_audit"
_SIGNED = b"endpoints audit entry 1\n"

_numbers = itertools.count()  # two changes of one process may share a clock tick

log = logging.getLogger("endpoints.audit")


@dataclass(frozen=True, slots=True)
class Entry:
    """One change: `what` is created, rotated, retires or revoked. `signed`: this project's secret vouches."""

    at: datetime
    who: str
    what: str
    key: str
    details: Mapping[str, Any]
    signed: bool


class Audit:
    """The trail in one store. Methods can raise StoreUnavailable."""

    def __init__(self, store: Store, secret: str | None, clock: Callable[[], datetime]) -> None:
        self._store, self._secret, self._clock = store, secret, clock

    def note(self, what: str, key_id: str, **details: Any) -> None:
        """Append an entry, and a line to the log."""
        at = self._clock()
        entry = {"at": at.isoformat(), "who": who(), "what": what, "key": key_id, **details}
        body = orjson.dumps({"entry": entry, "signature": self._sign(entry)})
        name = f"{at:%Y%m%dT%H%M%S.%fZ}-{next(_numbers):04}-{secrets.token_hex(6)}"
        self._store.put_new(f"{FOLDER}/{name}.json", body)
        shown = " ".join(f"{field}={value!r}" for field, value in details.items())
        log.info("key %s %s: %s", key_id, what, shown)

    def entries(self) -> Iterator[Entry]:
        """Every change, oldest first. What cannot be read is left out, and said in the log."""
        for found in sorted(self._store.list(FOLDER), key=lambda found: found.key):
            try:
                raw = orjson.loads(self._store.get(found.key) or b"")
                entry, signature = dict(raw["entry"]), raw["signature"]
                signed = hmac.compare_digest(self._sign(entry) or "", signature or "")
                at = datetime.fromisoformat(entry.pop("at"))
                yield Entry(at, entry.pop("who"), entry.pop("what"), entry.pop("key"), entry, signed)
            except (ValueError, TypeError, KeyError) as error:
                log.error("%s cannot be read (%s)", found.key, type(error).__name__)

    def _sign(self, entry: Mapping[str, Any]) -> str | None:
        if self._secret is None:
            return None
        body = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
        return hmac.new(self._secret.encode(), _SIGNED + body, hashlib.sha256).hexdigest()


def who() -> str:
    """The user and the machine that this process runs as, as in deploy@host-7."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
