"""API keys: `ep_<id>_<secret>`, of which the store keeps a record with the secret's hash.

    _keys/<id>             the record, created once, signed with ENDPOINTS_SECRET
    _keys/<id>.retires     when a rotated key ends
    _keys/<id>.revoked     made by revoking; nothing undoes it

Records never change, so that whoever can write to the bucket but lacks the secret can neither forge a key nor
widen one; ending a key is another object, which needs no signature because it can only take away.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from endpoints.audit import Audit
from endpoints.errors import EndpointsError, FieldError, InputError, SettingsError
from endpoints.lake.store import Listed, Store
from endpoints.last_used import LastUsed
from endpoints.settings import Settings
from endpoints.units import RATE

FOLDER = "_keys"
SCOPES = frozenset({"run", "read", "admin"})
REVOKED, RETIRES = ".revoked", ".retires"
_SIGNED = b"endpoints key record 1\n"
_ALPHABET = string.ascii_letters + string.digits
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_KEY = re.compile(r"ep_([0-9a-f]{16})_([A-Za-z0-9]{43})", re.ASCII)
RIGHTS: Mapping[str, re.Pattern[str]] = {
    "scopes": re.compile("|".join(sorted(SCOPES))),
    "endpoints": re.compile(r"[A-Za-z0-9_*?\[\]!-]{1,200}", re.ASCII),
    "pins": re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}", re.ASCII),
    "rate": RATE,
}
_WHY: Mapping[str, str] = {
    "endpoints": "is no pattern, as in landing_*",
    "pins": "is no variable, as in customer_id",
    "rate": "is no rate, as in 100/minute",
}

log = logging.getLogger(__name__)


class UnknownKey(EndpointsError):
    """There is no such key, or it has ended."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key and its rights: `endpoints` are globs over names, `pins` the values of variables, as text."""

    id: str
    name: str
    secret_hash: str
    scopes: frozenset[str]
    endpoints: tuple[str, ...]
    pins: Mapping[str, str]
    rate: str | None
    expires_at: datetime | None
    created_at: datetime
    rotated_from: str | None = None
    signing: Mapping[str, str] | None = None  # the public half of the JWK that its tokens are signed with


def parse_key(text: str) -> tuple[str, str]:
    """The id and the secret in a key's text; ValueError, which does not repeat it, where it is none."""
    match = _KEY.fullmatch(text)
    if match is None:
        raise ValueError("this is not a key: keys look like ep_<id>_<secret>")
    return match[1], match[2]


def is_key_id(text: str) -> bool:
    """Whether a text can be the id of a key."""
    return _ID.fullmatch(text) is not None


def matches(record: KeyRecord, secret: str) -> bool:
    """Whether it is the record's secret, in constant time. Secrets are random, so that one hash suffices."""
    return hmac.compare_digest(_hash(secret), record.secret_hash)


class KeyStore:
    """The keys in one store. With `secret`, records that it did not sign are ignored and logged.

    Every method can raise StoreUnavailable; any thread may call them.
    """

    def __init__(
        self, store: Store, secret: str | None, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store, self._secret, self._clock = store, secret, clock
        self.audit, self.last_used = Audit(store, secret, clock), LastUsed(store)
        self._records: dict[str, tuple[str, KeyRecord | None]] = {}
        self._retirements: dict[str, tuple[str, datetime]] = {}

    @classmethod
    def open(cls, settings: Settings) -> KeyStore:
        """The keys of the settings. SettingsError where they are shared but nothing would sign them."""
        store = Store.open(settings.keys_url or settings.lake_url, settings)
        if store.shared and settings.secret is None:
            raise SettingsError(
                "ENDPOINTS_SECRET: must be set where keys are on S3, since it signs their records: "
                "use the output of `openssl rand -hex 32`"
            )
        return cls(store, settings.secret.get_secret_value() if settings.secret else None)

    def create(
        self,
        name: str,
        *,
        scopes: Iterable[str] | None = None,
        endpoints: Iterable[str] = ("*",),
        pins: Mapping[str, str] | None = None,
        rate: str | None = None,
        expires_at: datetime | None = None,
        signing: Mapping[str, str] | None = None,
    ) -> tuple[KeyRecord, str]:
        """A new key: its record, and its text, which is kept nowhere. InputError names every wrong field.

        Without `scopes` it may run and read. One with pins may only run: listings and administration know
        no variables. `signing`: it may sign tokens; what `endpoints.tokens.public_half` gave.
        """
        pins = dict(pins or {})
        if scopes is None:
            scopes = ("run",) if pins else ("run", "read")
        record = KeyRecord(
            id="",
            name=name.strip(),
            secret_hash="",
            scopes=frozenset(scopes),
            endpoints=tuple(endpoints),
            pins=pins,
            rate=rate,
            expires_at=expires_at,
            created_at=self._clock(),
            signing=signing,
        )
        _check(record)
        return self._issue(record)

    def rotate(
        self,
        key_id: str,
        *,
        overlap: timedelta = timedelta(0),
        signing: Mapping[str, str] | None = None,
    ) -> tuple[KeyRecord, str]:
        """A new key with the rights of `key_id`, which ends now, or after `overlap`. UnknownKey.

        Its tokens end with it: a key that signs needs a new `signing` too, else InputError.
        """
        old = self.get(key_id)
        if old is None:
            raise UnknownKey(f"There is no key {key_id}, or it is revoked.")
        if (old.signing is None) != (signing is None):
            raise InputError([FieldError("signing", "invalid", "the new key signs if the old one does")])
        record, text = self._issue(
            replace(old, created_at=self._clock(), rotated_from=old.id, signing=signing)
        )
        if overlap > timedelta(0):
            ends = self._clock() + overlap
            self._store.put_new(_key(old.id, RETIRES), orjson.dumps({"at": ends.isoformat()}))
            self.audit.note("retires", old.id, name=old.name, at_time=ends.isoformat())
        else:
            self.revoke(old.id)
        return record, text

    def revoke(self, key_id: str) -> None:
        """Ends a key for good. Revoking twice is no error; UnknownKey where it cannot be a key's id."""
        if not is_key_id(key_id):
            raise UnknownKey(f"{key_id!r} is not the id of a key.")
        self._store.put_new(_key(key_id, REVOKED), orjson.dumps({"at": self._clock().isoformat()}))
        self.audit.note("revoked", key_id)

    def get(self, key_id: str) -> KeyRecord | None:
        """A key that has not ended; None where there is none. Whether it has expired is in the record."""
        if not is_key_id(key_id):
            return None
        body = self._store.get(_key(key_id))
        record = self._read(key_id, body) if body else None
        if record is None or self._store.get(_key(key_id, REVOKED)) is not None:
            return None
        retires = self._store.get(_key(key_id, RETIRES))
        return None if retires and _time(retires) <= self._clock() else record

    def all(self) -> list[KeyRecord]:
        """Every key, ended ones too, oldest first. Only records not seen before are read."""
        listed = {name: found for found in self._listed() if _ID.fullmatch(name := _name(found))}
        for name, found in listed.items():
            if self._records.get(name, ("",))[0] != found.tag:
                body = self._store.get(found.key)
                self._records[name] = (found.tag, self._read(name, body) if body else None)
        records = (self._records[name][1] for name in listed)
        return sorted((r for r in records if r is not None), key=lambda r: (r.created_at, r.id))

    def revoked(self) -> frozenset[str]:
        """The ids of all keys that have ended, by revoking or by rotation."""
        ended = set()
        for found in self._listed():
            key_id, dot, kind = _name(found).partition(".")
            if dot + kind == REVOKED or (dot + kind == RETIRES and self._has_retired(key_id, found)):
                ended.add(key_id)
        return frozenset(ended)

    def _listed(self) -> list[Listed]:
        return list(self._store.list(FOLDER))

    def _has_retired(self, key_id: str, found: Listed) -> bool:
        tag, at = self._retirements.get(key_id, ("", self._clock()))
        if tag != found.tag:
            at = _time(self._store.get(found.key) or b"")
            self._retirements[key_id] = (found.tag, at)
        return at <= self._clock()

    def _issue(self, template: KeyRecord) -> tuple[KeyRecord, str]:
        """Gives the template an id and a secret, and stores it."""
        secret = "".join(secrets.choice(_ALPHABET) for _ in range(43))
        record = replace(template, id=secrets.token_hex(8), secret_hash=_hash(secret))
        body = _fields(record)
        signature = _sign(self._secret, body) if self._secret else None
        if not self._store.put_new(_key(record.id), orjson.dumps({"record": body, "signature": signature})):
            return self._issue(template)  # the id is taken, or the answer to our own first try was lost
        self._note_created(record)
        return record, f"ep_{record.id}_{secret}"

    def _note_created(self, record: KeyRecord) -> None:
        """Before anyone sees the key: none is in use that the trail does not know. No values of pins."""
        self.audit.note(
            "created",
            record.id,
            name=record.name,
            scopes=sorted(record.scopes),
            endpoints=list(record.endpoints),
            pins=sorted(record.pins),
            rate=record.rate,
            expires=record.expires_at and record.expires_at.isoformat(),
            signing=record.signing and record.signing["alg"],
            rotated_from=record.rotated_from,
        )

    def _read(self, key_id: str, body: bytes) -> KeyRecord | None:
        """The record in an object; None, and a line in the log, where it is not to be trusted."""
        try:
            raw = orjson.loads(body)
            fields, signature = raw["record"], raw["signature"]
            if self._secret and not hmac.compare_digest(_sign(self._secret, fields), signature or ""):
                log.error("key %s is ignored: ENDPOINTS_SECRET did not sign its record", key_id)
                return None
            if fields["id"] != key_id:
                log.error("key %s is ignored: its record is another key's", key_id)
                return None
            return _record(fields)
        except (ValueError, TypeError, KeyError) as error:
            log.error("key %s is ignored: its record cannot be read (%s)", key_id, type(error).__name__)
            return None


def _key(key_id: str, kind: str = "") -> str:
    return f"{FOLDER}/{key_id}{kind}"


def _name(found: Listed) -> str:
    return found.key.rpartition("/")[2]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _sign(secret: str, fields: Mapping[str, Any]) -> str:
    """HMAC-SHA256 over the record's canonical JSON."""
    body = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return hmac.new(secret.encode(), _SIGNED + body, hashlib.sha256).hexdigest()


def _time(body: bytes) -> datetime:
    """When a key retires; unreadable means long ago, since the object is there to end it."""
    try:
        return datetime.fromisoformat(orjson.loads(body)["at"])
    except (ValueError, TypeError, KeyError):
        return datetime.min.replace(tzinfo=UTC)


def _fields(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "secret_hash": record.secret_hash,
        "scopes": sorted(record.scopes),
        "endpoints": list(record.endpoints),
        "pins": dict(record.pins),
        "rate": record.rate,
        "expires_at": record.expires_at.isoformat() if record.expires_at else None,
        "created_at": record.created_at.isoformat(),
        "rotated_from": record.rotated_from,
        "signing": dict(record.signing) if record.signing else None,
    }


def _record(fields: Mapping[str, Any]) -> KeyRecord:
    return KeyRecord(
        id=fields["id"],
        name=fields["name"],
        secret_hash=fields["secret_hash"],
        scopes=frozenset(fields["scopes"]),
        endpoints=tuple(fields["endpoints"]),
        pins=dict(fields["pins"]),
        rate=fields["rate"],
        expires_at=datetime.fromisoformat(fields["expires_at"]) if fields["expires_at"] else None,
        created_at=datetime.fromisoformat(fields["created_at"]),
        rotated_from=fields["rotated_from"],
        signing=fields.get("signing"),  # records of before there were tokens have none
    )


def _check(record: KeyRecord) -> None:
    """InputError for a key that could not mean what was asked for."""
    wrong = [*_wrong_texts(record), *_wrong_scopes(record)]
    if not record.name or len(record.name) > 200 or not record.name.isprintable():
        wrong.append(FieldError("name", "invalid", "give it a name of 1 to 200 printable characters"))
    if record.expires_at is not None and record.expires_at <= record.created_at:
        wrong.append(FieldError("expires_at", "past", "this key would have expired before it was made"))
    if wrong:
        raise InputError(wrong)


def _wrong_texts(record: KeyRecord) -> Iterable[FieldError]:
    texts = {"endpoints": record.endpoints, "pins": record.pins, "rate": [record.rate] if record.rate else []}
    for field, values in texts.items():
        for value in values:
            if not RIGHTS[field].fullmatch(value):
                yield FieldError(field, "invalid", f"{value!r} {_WHY[field]}")
    if not record.endpoints:
        yield FieldError("endpoints", "missing", "name at least one pattern; * is every endpoint")


def _wrong_scopes(record: KeyRecord) -> Iterable[FieldError]:
    unknown = sorted(record.scopes - SCOPES)
    if unknown or not record.scopes:
        yield FieldError("scopes", "invalid", f"of run, read and admin, not {', '.join(unknown) or 'none'}")
    elif record.pins and record.scopes != {"run"}:
        yield FieldError("scopes", "pinned", "a key with pins may only run: leave out --scopes, or the pins")
