"""Cursors: where the next page begins, in which snapshot, for whom.

A cursor is what a caller was given, and nothing more is believed of it: whoever sends one is authorized anew,
and binds the same values to the same version, or is refused. It holds the moment at which values were bound,
so that a default such as `today - 30d` means the same days on every page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from endpoints.definition import Version
from endpoints.errors import FieldError, InputError
from endpoints.query.bind import Bound
from serving.auth import Principal

LIFE = timedelta(hours=24)
MAX_LENGTH = 512

_UNIT = timedelta(hours=1)

_Whole = Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)]
_Fields = tuple[_Whole, _Whole, _Whole, _Whole, Annotated[str, Field(max_length=64)]]
_FIELDS: TypeAdapter[_Fields] = TypeAdapter(_Fields)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The next page: rows of manifest `snapshot` from `offset` on. `owner` names
    caller and values.
    """

    version: int
    snapshot: int
    offset: int
    bound_at: datetime
    owner: str

    def text(self) -> str:
        """The cursor as callers carry it."""
        at = int(self.bound_at.timestamp() * 1_000_000)
        fields = (self.version, self.snapshot, self.offset, at, self.owner)
        return base64.urlsafe_b64encode(_FIELDS.dump_json(fields)).decode().rstrip("=")

    def check(self, principal: Principal, bound: Bound) -> None:
        """InputError where it was given to someone else, or for other values."""
        if self.owner != owner_of(principal, bound):
            raise _refused("other_request", "This cursor belongs to another key, version or set of values.")


def read_cursor(text: str, now: datetime) -> Cursor:
    """The cursor that `text` is. InputError where it is none, or is older than a day."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) <= MAX_LENGTH else b""
        version, snapshot, offset, at, owner = _FIELDS.validate_json(raw)
        bound_at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at)
    except (ValidationError, binascii.Error, ValueError, OverflowError, OSError):
        raise _refused("malformed", "This is no cursor; send one as it was given.") from None
    if not now - LIFE - _UNIT <= bound_at <= now + LIFE:  # the clock may have been set back since
        raise _refused("expired", "This cursor is older than a day; begin again without it.")
    return Cursor(version, snapshot, offset, bound_at, owner)


def moment_of(version: Version, now: datetime) -> datetime:
    """The moment that a first page's cursor holds.

    The hour where no value depends on it, so that the same page has the same bytes.
    """
    if any(v.default is not None and v.default.anchor is not None for v in version.variables.values()):
        return now
    return now.replace(minute=0, second=0, microsecond=0)


def owner_of(principal: Principal, bound: Bound) -> str:
    """A digest of who asks for which version with which values."""
    parts = (principal.id, bound.version.key, bound.version.fingerprint, bound.key)
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def _refused(code: str, detail: str) -> InputError:
    return InputError([FieldError("cursor", code, detail)])
