"""Claims: which run is making which partitions, so that the same work is done once.

    _claims/<name>/v<N>/<20 digits>.json    one per run, created only if absent, renewed while the run lives

A claim is numbered like a manifest: number n was created by someone who had read every claim before it, so
that of two runs that want a partition one sees the other. Only its holder writes it again. One that has not
been renewed for `LEASE` is a killed run's, and counts no more: nothing has to be cleaned up before others go
on.

Claims spare work, they do not guard it: publishing is safe without them (`publish.py`). A run that was
suspended past its lease and goes on merely makes something twice.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import orjson

from endpoints.errors import StoreUnavailable
from endpoints.lake.layout import claims_folder
from endpoints.lake.store import Listed, Store

LEASE = timedelta(seconds=60)
"""How long a claim counts after it was renewed last. Clocks of runs and store must agree better than this."""
RENEWALS_PER_LEASE = 4
# Numbers may not be used twice while somebody could have read the folder before; that takes seconds.
FORGOTTEN_AFTER = timedelta(hours=1)
TRIES = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """The run `holder` is making `partitions`; `base` was the newest snapshot when it was asked to."""

    number: int
    holder: str
    partitions: frozenset[str]
    base: int
    ended: bool = False
    token: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What could be claimed, in the order asked for, and the claims of others on the rest."""

    mine: tuple[str, ...]
    others: tuple[Claim, ...]

    @property
    def base(self) -> int | None:
        """The oldest snapshot from which on the others' work counts; None where there are none."""
        return min((claim.base for claim in self.others), default=None)


class Claims:
    """The claims on one version."""

    def __init__(self, store: Store, endpoint: str, version: int, *, lease: timedelta = LEASE) -> None:
        self._store, self._folder, self._lease = store, claims_folder(endpoint, version), lease

    def live(self) -> list[Claim]:
        """The claims of runs that are alive, oldest first; some are on nothing any more."""
        return self._read()[0]

    @contextmanager
    def hold(self, holder: str) -> Iterator[Holding]:
        """Lets a run claim partitions, and shows that it is alive until the block ends."""
        holding = Holding(self, holder, self._lease)
        try:
            yield holding
        finally:
            holding.end()

    def create(self, wanted: Collection[str], holder: str, base: int) -> tuple[Claim, Taken]:
        """A claim on what of `wanted` no other run has; on nothing, if they have it all."""
        token = secrets.token_hex(8)
        for _ in range(TRIES):
            live, newest = self._read()
            others = tuple(c for c in live if c.holder != holder and not c.partitions.isdisjoint(wanted))
            theirs = frozenset[str]().union(*(claim.partitions for claim in others))
            mine = tuple(key for key in wanted if key not in theirs)
            claim = Claim(newest + 1, holder, frozenset(mine), base, token=token)
            if self._store.put_new(self._key(claim.number), _encode(claim)) or self._is_ours(claim):
                return claim, Taken(mine, others)
        raise StoreUnavailable(f"{self._folder}: no claim could be had in {TRIES} tries")

    def write(self, claim: Claim) -> None:
        """Renews or changes a claim, for its holder. Trouble is only logged: claims lapse by themselves."""
        try:
            self._store.put(self._key(claim.number), _encode(claim))
        except StoreUnavailable as error:
            log.warning("the claim of run %s could not be written: %s", claim.holder, error)

    def _read(self) -> tuple[list[Claim], int]:
        """The live claims, and the highest number there is. Old ones are forgotten on the way."""
        now = datetime.now(UTC)
        found = sorted(self._store.list(self._folder), key=lambda listed: listed.key)
        for listed in found[:-1]:
            if now - listed.modified > FORGOTTEN_AFTER:
                self._store.delete(listed.key)
        recent = [listed for listed in found if now - listed.modified <= self._lease]
        claims = (self._claim(listed.key) for listed in recent)
        return [claim for claim in claims if claim and not claim.ended], _number(found)

    def _claim(self, key: str) -> Claim | None:
        body = self._store.get(key)
        return _decode(body) if body else None

    def _is_ours(self, claim: Claim) -> bool:
        """Whether the object in the way is our own: a create whose answer was lost is repeated."""
        found = self._claim(self._key(claim.number))
        return found is not None and found.token == claim.token

    def _key(self, number: int) -> str:
        return f"{self._folder}/{number:020}.json"


class Holding:
    """One run's claim, which a thread renews."""

    def __init__(self, claims: Claims, holder: str, lease: timedelta) -> None:
        self._claims, self._holder, self._every = claims, holder, lease.total_seconds() / RENEWALS_PER_LEASE
        self._claim: Claim | None = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name="claim", daemon=True)

    def take(self, partitions: Collection[str], base: int) -> Taken:
        """Claims what of `partitions` nobody else has, in place of what was claimed before."""
        with self._lock:
            before = self._claim
            self._claim, taken = self._claims.create(partitions, self._holder, base)
            if before is not None:
                self._claims.write(replace(before, ended=True))
        if self._thread.ident is None:
            self._thread.start()
        return taken

    def release(self) -> None:
        """Leaves the partitions to others; the run goes on showing that it is alive."""
        with self._lock:
            if self._claim is not None:
                self._claim = replace(self._claim, partitions=frozenset())
                self._claims.write(self._claim)

    def end(self) -> None:
        """Ends the claim, and its renewal."""
        self._ended.set()
        if self._claim is not None:
            self._thread.join()
            self._claims.write(replace(self._claim, ended=True))

    def _renew(self) -> None:
        while not self._ended.wait(self._every):
            with self._lock:
                if self._claim is not None:
                    self._claims.write(self._claim)


def _number(found: list[Listed]) -> int:
    """The highest number; 0 where there is none."""
    return int(found[-1].key.rpartition("/")[2].removesuffix(".json")) if found else 0


def _encode(claim: Claim) -> bytes:
    return orjson.dumps(
        {
            "number": claim.number,
            "holder": claim.holder,
            "partitions": sorted(claim.partitions),
            "base": claim.base,
            "ended": claim.ended,
            "token": claim.token,
        }
    )


def _decode(body: bytes) -> Claim | None:
    try:
        raw = orjson.loads(body)
        return Claim(**{**raw, "partitions": frozenset(raw["partitions"])})
    except (ValueError, TypeError, KeyError):
        log.warning("an object among the claims is none: it does not count")
        return None
