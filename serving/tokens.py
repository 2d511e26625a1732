"""Which tokens are taken, and what their bearers may: the rights of the key behind each, narrowed by it.

The key behind a token is the one that `kid` names, or, for the operator's own signers, `ENDPOINTS_JWKS_KEY`.
A token that was checked once is remembered, so that the next request pays for a hash; its times are looked at
anew each time, since clocks are set, and so is who holds the key: a token dies with its key.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from endpoints import tokens
from endpoints.keys import is_key_id
from endpoints.settings import Settings
from endpoints.tokens import Claims, InvalidToken, Signer
from serving.auth import Principal, visible_to
from serving.jwks import Jwks
from serving.problems import HttpProblem

log = logging.getLogger(__name__)

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Checked:
    principal: Principal
    claims: Claims
    holder: Principal  # of the key, as it was then
    kid: str
    signer: Signer | None  # of the operator's own


class Tokens:
    """The tokens that one process takes. Belongs to the event loop, but for the thread of the JWKS."""

    def __init__(self, settings: Settings, *, jwks: Jwks | None = None) -> None:
        self._audience = settings.token_audience
        self._secret = settings.token_secret.get_secret_value() if settings.token_secret else None
        self._jwks_key = settings.jwks_key
        self._jwks = jwks or (Jwks(settings.jwks_url) if settings.jwks_url else None)
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()

    def start(self) -> None:
        if self._jwks is not None:
            self._jwks.start()

    def stop(self) -> None:
        if self._jwks is not None:
            self._jwks.stop()

    def key_id(self, text: str) -> tuple[str, str]:
        """The `kid` of a token, and the id of the key whose rights bound it. InvalidToken."""
        kid = tokens.kid_of(text)
        if self._jwks is not None and self._jwks_key is not None:
            if self._jwks.get(kid) is not None:
                return kid, self._jwks_key
            if not is_key_id(kid):
                self._jwks.look_again()
        return kid, kid

    def remembered(self, text: str, now: datetime) -> tuple[Principal, Principal] | None:
        """The bearer of a token that was checked before, and the holder of its key at that time.

        InvalidToken where it is none at the time.
        """
        checked = self._checked.get(_digest(text))
        if checked is None or self._operators(checked.kid) is not checked.signer:
            return None
        checked.claims.check(now)
        return checked.principal, checked.holder

    def check(self, text: str, kid: str, holder: Principal, now: datetime) -> Principal:
        """The bearer of a token. Raises InvalidToken; HttpProblem 403 where its pins are not its key's."""
        signer = self._signer(kid, holder)
        if signer is None:
            raise InvalidToken("no such signer")
        claims = tokens.read_token(text, signer, audience=self._audience, now=now)
        principal = _narrowed(holder, claims)
        self._checked[_digest(text)] = _Checked(principal, claims, holder, kid, self._operators(kid))
        while len(self._checked) > REMEMBERED:
            self._checked.popitem(last=False)
        return principal

    def _signer(self, kid: str, holder: Principal) -> Signer | None:
        """Who signs under that name: the key itself, else one of the operator's own."""
        if kid != holder.id:
            return self._operators(kid)
        signing = holder.record.signing
        if signing is None:
            return None
        if signing["alg"] == "HS256":
            return None if self._secret is None else tokens.secret_signer(self._secret, kid)
        return tokens.signer_of(signing)

    def _operators(self, kid: str) -> Signer | None:
        return self._jwks.get(kid) if self._jwks is not None else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _narrowed(holder: Principal, claims: Claims) -> Principal:
    """The key's rights where the token has them too. Without `scopes` it may only run."""
    pins = dict(holder.pins)
    for name, value in claims.pins.items():
        if pins.setdefault(name, value) != value:
            raise HttpProblem("pin_conflict", "This token pins another value than its key does.")
    asked = {"run"} if claims.scopes is None else claims.scopes
    scopes = holder.scopes & (asked | {"run", "read"} if "admin" in asked else asked)
    visible = holder.visible
    if claims.endpoints is not None:
        visible = re.compile(f"(?={holder.visible.pattern}){visible_to(claims.endpoints).pattern}")
    return Principal(
        id=holder.id,
        name=holder.name,
        scopes=frozenset({"run"}) & scopes if pins else scopes,
        pins=pins,
        expires_at=min(filter(None, (claims.expires_at, holder.expires_at))),
        record=holder.record,
        visible=visible,
        subject=claims.subject or "",
    )
