"""Who is calling: keys in memory, the tokens they sign, and what each may do.

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
from endpoints.keys import KeyRecord, is_key_id, matches, parse_key
from endpoints.last_used import LastUsed
from endpoints.tokens import InvalidToken, looks_like_token
from serving.problems import HttpProblem

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
KNOWN_KEYS_LAST = 15 * 60.0  # seconds that known keys outlive the store
WRITE_USED_SECONDS = 60.0
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
    subject: str | None = None  # whom a token speaks for; empty where it does not say. None: no token

    @classmethod
    def of(cls, record: KeyRecord) -> Principal:
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
            visible_to(record.endpoints),
        )

    def sees(self, endpoint: str) -> bool:
        """Whether this key may know that the endpoint exists."""
        return self.visible.match(endpoint.lower()) is not None

    def require(self, scope: str) -> None:
        """Raises HttpProblem 403 `missing_scope`."""
        if scope not in self.scopes:
            raise HttpProblem("missing_scope", f"This key has not the scope {scope!r} that this needs.")


class Tokens(Protocol):
    """What the ring needs of `serving.tokens.Tokens`."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def key_id(self, text: str) -> tuple[str, str]: ...
    def remembered(self, text: str, now: datetime) -> tuple[Principal, Principal] | None: ...
    def check(self, text: str, kid: str, holder: Principal, now: datetime) -> Principal: ...


def visible_to(globs: Iterable[str]) -> re.Pattern[str]:
    """What matches the names, in lower case, of the endpoints that any of the globs means."""
    return re.compile("(?:" + "|".join(fnmatch.translate(glob.lower()) for glob in globs) + ")")


@dataclass(frozen=True, slots=True)
class _Known:
    principals: Mapping[str, Principal]
    revoked: frozenset[str]
    read_at: float  # monotonic seconds; when the store last answered


class KeyRing:
    """The keys that this process knows, kept fresh by a thread."""

    def __init__(
        self,
        keys: Keys,
        *,
        tokens: Tokens | None = None,
        last_used: LastUsed | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self._tokens, self._monotonic, self.wall = keys, tokens, monotonic, wall
        self._last_used, self._written_at = last_used, monotonic()
        self._used: dict[str, float] = {}  # by key, in Unix seconds
        self._known = _Known({}, frozenset(), float("-inf"))
        self._late: dict[str, Principal] = {}  # found by a look-up since the last whole read
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[Principal | None]] = {}
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="key-lookup")
        self._stop, self._read_once = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="key-ring", daemon=True)

    def start(self) -> None:
        """Read all keys every two seconds. Waits a little for the first time; a store may be down."""
        if self._tokens is not None:
            self._tokens.start()
        self._thread.start()
        if not self._read_once.wait(FIRST_READ):
            log.warning("keys have not been read yet: starting without them")

    def stop(self) -> None:
        self._stop.set()
        if self._tokens is not None:
            self._tokens.stop()
        if self._thread.is_alive():
            self._thread.join()
            self.write_used()
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
        credential = _credential(headers, basic)
        if credential is None:
            raise HttpProblem("unauthenticated", headers=_CHALLENGE[basic])
        now = self.wall()
        try:
            if self._tokens is not None and looks_like_token(credential):
                principal = await self._bearer(self._tokens, credential, datetime.fromtimestamp(now, UTC))
            else:
                principal = await self._owner(credential)
        except (ValueError, InvalidToken) as error:
            if isinstance(error, InvalidToken):
                log.info("a token is refused: %s", error)
            raise HttpProblem("unauthenticated", headers=_CHALLENGE[basic]) from None
        if principal.expires_at is not None and principal.expires_at.timestamp() <= now:
            raise HttpProblem("unauthenticated", "This key has expired.", headers=_CHALLENGE[basic])
        self._used[principal.id] = now
        return principal

    def holds(self, principal: Principal) -> bool:
        """Whether the principal of a key would be authenticated again; it counts as used. No token's is."""
        known, now = self._known, self.wall()
        if (known.principals.get(principal.id) or self._late.get(principal.id)) is not principal:
            return False
        if principal.id in known.revoked or self.age > KNOWN_KEYS_LAST:
            return False
        if principal.expires_at is not None and principal.expires_at.timestamp() <= now:
            return False
        self._used[principal.id] = now
        return True

    async def _owner(self, key: str) -> Principal:
        """Who holds a key. ValueError where nobody does."""
        key_id, secret = parse_key(key)
        principal = await self._holder(key_id)
        if principal is None or not matches(principal.record, secret):
            raise ValueError("no such key")
        self._require_known()
        return principal

    async def _bearer(self, tokens: Tokens, token: str, now: datetime) -> Principal:
        """Who bears a token. InvalidToken; HttpProblem 403 where it and its key pin different values."""
        if (remembered := tokens.remembered(token, now)) is not None:
            principal, holder = remembered
            if await self._holder(holder.id) is holder:
                self._require_known()
                return principal
        kid, key_id = tokens.key_id(token)
        known = await self._holder(key_id) if is_key_id(key_id) else None
        if known is None:
            raise InvalidToken("there is no such key, or it has ended")
        self._require_known()
        return tokens.check(token, kid, known, now)

    async def _holder(self, key_id: str) -> Principal | None:
        """The principal of a key that has not been revoked; None where there is none."""
        known = self._known
        if key_id in known.revoked:
            return None
        return known.principals.get(key_id) or self._late.get(key_id) or await self._look_up(key_id)

    def _require_known(self) -> None:
        """HttpProblem 503 where the store has been away so long that nobody knows what was revoked."""
        if self.age > KNOWN_KEYS_LAST:
            raise HttpProblem("keys_unavailable")

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

    def write_used(self) -> None:
        """Keep when keys were last used, if any were. A store that takes no writes is no trouble."""
        self._written_at = self._monotonic()
        if self._last_used is None or not self._used:
            return
        try:
            self._last_used.write(dict(self._used), datetime.now(UTC))
        except LakeError as error:
            log.warning("when keys were last used is not kept: %s", error)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
            except Exception:  # the thread must outlive any surprise: without it revocation stops
                log.exception("keys not refreshed")
            if self._monotonic() - self._written_at > WRITE_USED_SECONDS:
                self.write_used()
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
