"""Who is calling: keys in memory, and what each may do.

All key records are held in memory and read again every two seconds by one thread, so that a request costs a
hash and a dictionary look-up, a revoked key dies within five seconds, and the store may be away for a
while. A key that was made since the last read is looked up once, by few threads at a time, however many
requests carry it.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import re
import threading
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from endpoints.errors import LakeError
from endpoints.keys import KeyRecord, matches, parse_key
from serving.problems import HttpProblem

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
KNOWN_KEYS_LAST = 15 * 60.0  # seconds that known keys outlive the store
FIRST_READ = 5.0
LOOKUP_THREADS = 2
LOOKUPS_WAITING = 64
UNKNOWN_REMEMBERED = 10_000

Headers = Iterable[tuple[bytes, bytes]]


class Keys(Protocol):
    """What the ring needs of `endpoints.keys.KeyStore`."""

    def get(self, key_id: str) -> KeyRecord | None: ...
    def all(self) -> Iterable[KeyRecord]: ...
    def revoked(self) -> Iterable[str]: ...


@dataclass(frozen=True, slots=True)
class Principal:
    """A key that has been checked, and its rights."""

    id: str
    name: str
    scopes: frozenset[str]
    pins: Mapping[str, str]
    expires_at: datetime | None
    record: KeyRecord
    visible: re.Pattern[str]
    subject: str | None = None  # whom a token speaks for

    @classmethod
    def of(cls, record: KeyRecord) -> Principal:
        globs = "|".join(fnmatch.translate(glob.lower()) for glob in record.endpoints)
        # A pinned key sees rows of one value only; listings and administration know no variables.
        scopes = frozenset({"run"}) & record.scopes if record.pins else record.scopes
        if "admin" in scopes:
            scopes |= {"run", "read"}
        return cls(
            record.id,
            record.name,
            scopes,
            record.pins,
            record.expires_at,
            record,
            re.compile(globs or r"(?!)"),
        )

    def sees(self, endpoint: str) -> bool:
        """Whether this key may know that the endpoint exists."""
        return self.visible.match(endpoint.lower()) is not None

    def require(self, scope: str) -> None:
        """Raises HttpProblem 403 `missing_scope`."""
        if scope not in self.scopes:
            raise HttpProblem("missing_scope", f"This key has not the scope {scope!r} that this needs.")


@dataclass(frozen=True, slots=True)
class _Known:
    principals: Mapping[str, Principal]
    revoked: frozenset[str]
    read_at: float  # monotonic seconds; when the store last answered


class KeyRing:
    """The keys that this process knows, kept fresh by a thread."""

    def __init__(self, keys: Keys, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._monotonic = keys, monotonic
        self._known = _Known({}, frozenset(), float("-inf"))
        self._late: dict[str, Principal] = {}  # found by a look-up since the last whole read
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[Principal | None]] = {}
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="key-lookup")
        self._stop, self._read_once = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="key-ring", daemon=True)

    def start(self) -> None:
        """Read all keys every two seconds. Waits a little for the first time; a store may be down."""
        self._thread.start()
        if not self._read_once.wait(FIRST_READ):
            log.warning("keys have not been read yet: starting without them")

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def age(self) -> float:
        """Seconds since the store last answered."""
        return self._monotonic() - self._known.read_at

    def refresh(self) -> None:
        """Read every record. On trouble with the store what is known stays."""
        at = self._monotonic()
        late = dict(self._late)
        try:
            revoked = frozenset(self._keys.revoked())
            records = {record.id: record for record in self._keys.all()}
        except LakeError as error:
            log.warning("keys not refreshed: %s", error)
            return
        before = self._known.principals
        principals = {key_id: _principal(record, before.get(key_id)) for key_id, record in records.items()}
        self._known = _Known(principals, revoked, at)
        self._read_once.set()
        for key_id in late:  # the whole read has them, or they are gone
            self._late.pop(key_id, None)

    async def authenticate(self, headers: Headers, *, basic: bool = False) -> Principal:
        """The principal behind a request's headers.

        `basic` also takes the key as a Basic password, for pages that a browser opens. Raises HttpProblem
        400 for two credentials, 401, or 503 where the store has been away too long to tell.
        """
        key = _credential(headers, basic)
        if key is None:
            raise HttpProblem("unauthenticated", headers=_CHALLENGE[basic])
        try:
            key_id, secret = parse_key(key)
        except ValueError:
            raise HttpProblem("unauthenticated", headers=_CHALLENGE[basic]) from None
        known = self._known
        principal = known.principals.get(key_id) or self._late.get(key_id)
        if principal is None and key_id not in known.revoked:
            principal = await self._look_up(key_id)
        if principal is None or key_id in known.revoked or not matches(principal.record, secret):
            raise HttpProblem("unauthenticated", headers=_CHALLENGE[basic])
        if self._monotonic() - known.read_at > KNOWN_KEYS_LAST:
            raise HttpProblem("keys_unavailable")
        if principal.expires_at is not None and principal.expires_at <= datetime.now(UTC):
            raise HttpProblem("unauthenticated", "This key has expired.", headers=_CHALLENGE[basic])
        return principal

    async def _look_up(self, key_id: str) -> Principal | None:
        """One shared read of a record that is not known yet. Made-up ids are remembered for two seconds."""
        if self._unknown.get(key_id, float("-inf")) > self._monotonic() - REFRESH_SECONDS:
            return None
        task = self._lookups.get(key_id)
        if task is None:
            if len(self._lookups) >= LOOKUPS_WAITING:
                return None  # under a flood a new key waits for the next whole read
            task = asyncio.create_task(self._read(key_id))
            self._lookups[key_id] = task
            task.add_done_callback(lambda _: self._lookups.pop(key_id, None))
        return await asyncio.shield(task)

    async def _read(self, key_id: str) -> Principal | None:
        try:
            record = await asyncio.get_running_loop().run_in_executor(self._pool, self._keys.get, key_id)
        except LakeError as error:
            log.warning("key not looked up: %s", error)
            raise HttpProblem("keys_unavailable") from None
        if record is None:
            self._unknown[key_id] = self._monotonic()
            while len(self._unknown) > UNKNOWN_REMEMBERED:
                self._unknown.popitem(last=False)
            return None
        principal = self._late[key_id] = Principal.of(record)
        return principal

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
            except Exception:  # the thread must outlive any surprise: without it revocation stops
                log.exception("keys not refreshed")
            self._stop.wait(REFRESH_SECONDS)


def _principal(record: KeyRecord, before: Principal | None) -> Principal:
    return before if before is not None and before.record == record else Principal.of(record)


_CHALLENGE: Mapping[bool, Mapping[str, str]] = {
    False: {"WWW-Authenticate": 'Bearer realm="endpoints"'},
    True: {"WWW-Authenticate": 'Basic realm="your key as the password", charset="UTF-8"'},
}


def _credential(headers: Headers, basic: bool) -> str | None:
    """The one key in the headers, or None. Raises HttpProblem `two_credentials`."""
    found: list[str | None] = []
    for name, value in headers:
        if name == b"x-api-key":
            found.append(value.decode("latin-1").strip())
        elif name == b"authorization":
            found.append(_from_authorization(value.decode("latin-1"), basic))
    if len(found) > 1:
        raise HttpProblem("two_credentials")
    return found[0] if found else None


def _from_authorization(value: str, basic: bool) -> str | None:
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if basic and scheme.lower() == "basic":
        try:
            return b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")[2]
        except ValueError:
            return None
    return None
