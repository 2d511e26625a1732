"""Tokens for browsers: JWTs (RFC 7519) that the holder of a signing key mints, and how they are checked.

A signing key is a JWK (RFC 7517). Its private half is shown once, when the key is made; the key's record
holds the public half. With HS256 both sides need the same secret: it is derived from the key's id and
`ENDPOINTS_TOKEN_SECRET`, which is set outside the lake.

What a token's header says is believed for one thing, `kid`: it names the signer, and the signer fixes the
algorithm. Claims: `exp` and `aud` (required, at most 24 hours ahead), `nbf`, `sub`, and what narrows the
rights of the key: `scopes`, `endpoints` (globs), `pins`.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from endpoints.errors import EndpointsError
from endpoints.keys import RIGHTS

MAX_TOKEN_BYTES: Final = 4096
MAX_LIFE: Final = timedelta(hours=24)
MAX_NAMES: Final = 50
MAX_TEXT: Final = 256  # of `kid` and `sub`
MAX_PIN: Final = 2048
_MIN_RSA_BITS: Final = 2048

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
# Anything else, above all a key that the token brings itself (jwk, jku, x5u, x5c) or `crit`, is refused.
_HEADERS = frozenset({"alg", "kid", "typ", "cty", "x5t", "x5t#S256"})
_ALGORITHM_OF: Mapping[str, str] = {"OKP Ed25519": "EdDSA", "EC P-256": "ES256", "RSA": "RS256"}
_PUBLIC = ("kty", "crv", "x", "y", "n", "e", "alg")


class InvalidToken(EndpointsError):
    """The token is not good. The message says why, without repeating it: for logs, not for callers."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who may have signed: the one algorithm, and the key as PyJWT takes it."""

    algorithm: str
    key: Any


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. None: it does not narrow that right."""

    expires_at: datetime
    not_before: datetime | None
    subject: str | None
    scopes: frozenset[str] | None
    endpoints: tuple[str, ...] | None
    pins: Mapping[str, str]

    def check(self, now: datetime) -> None:
        """Raises InvalidToken where its time has gone or has not come, by a wall clock that may be set."""
        if self.expires_at <= now:
            raise InvalidToken("expired")
        if self.expires_at > now + MAX_LIFE:
            raise InvalidToken("lives longer than 24 hours")
        if self.not_before is not None and self.not_before > now:
            raise InvalidToken("not valid yet")


def looks_like_token(text: str) -> bool:
    """Whether a credential is meant as a token: the JSON of every header begins with `{"`."""
    return text.startswith("ey")


def new_signing_key(algorithm: str) -> dict[str, str]:
    """A new private JWK for EdDSA or ES256, without `kid`. ValueError for another algorithm."""
    if algorithm == "EdDSA":
        jwk = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
    elif algorithm == "ES256":
        jwk = ECAlgorithm.to_jwk(generate_private_key(SECP256R1()), as_dict=True)
    else:
        raise ValueError(f"{algorithm!r} is none of EdDSA and ES256")
    return {**jwk, "alg": algorithm}


def secret_jwk(secret: str, key_id: str) -> dict[str, str]:
    """The JWK of a key that signs with HS256: its secret is derived, so that no key can sign for another."""
    derived = hmac.new(secret.encode(), f"endpoints token {key_id}".encode(), hashlib.sha256).digest()
    return {
        "kty": "oct",
        "alg": "HS256",
        "k": urlsafe_b64encode(derived).rstrip(b"=").decode(),
        "kid": key_id,
    }


def public_half(jwk: Mapping[str, str]) -> dict[str, str]:
    """What a record may hold of a JWK: for HS256 that it is one, and nothing else."""
    if jwk["alg"] == "HS256":
        return {"alg": "HS256"}
    return {name: jwk[name] for name in _PUBLIC if name in jwk}


def signer_of(jwk: Mapping[str, Any]) -> Signer:
    """The signer behind a JWK with an asymmetric key. ValueError where it is none that is accepted."""
    algorithm = _ALGORITHM_OF.get(f"{jwk.get('kty')} {jwk.get('crv', '')}".rstrip())
    if algorithm is None:
        raise ValueError("keys are Ed25519, P-256 or RSA")
    if jwk.get("alg", algorithm) != algorithm:
        raise ValueError(f"such a key signs with {algorithm} here")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("the key is not for signatures")
    try:
        key = jwt.PyJWK({name: jwk[name] for name in _PUBLIC if name in jwk}, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise ValueError(f"the key cannot be read ({type(error).__name__})") from None
    if algorithm == "RS256" and key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"RSA keys have {_MIN_RSA_BITS} bits or more")
    return Signer(algorithm, key)


def secret_signer(secret: str, key_id: str) -> Signer:
    """The signer of a key with HS256."""
    return Signer("HS256", jwt.PyJWK(secret_jwk(secret, key_id)).key)


def mint(
    jwk: Mapping[str, str],
    *,
    audience: str,
    expires_at: datetime,
    subject: str | None = None,
    scopes: Sequence[str] | None = None,
    endpoints: Sequence[str] | None = None,
    pins: Mapping[str, str] | None = None,
) -> str:
    """A token signed with a private JWK that has `kid` and `alg`. ValueError where it is none."""
    claims: dict[str, Any] = {"aud": audience, "exp": math.floor(expires_at.timestamp())}
    optional = {"sub": subject, "scopes": scopes, "endpoints": endpoints, "pins": pins}
    claims |= {name: value for name, value in optional.items() if value}
    try:
        key = jwt.PyJWK(dict(jwk), algorithm=jwk["alg"])
        return jwt.encode(claims, key, algorithm=jwk["alg"], headers={"kid": jwk["kid"]})
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no private JWK with kid and alg ({type(error).__name__})") from None


def kid_of(text: str) -> str:
    """The `kid` of a token that nobody has checked yet. InvalidToken for a wrong header."""
    if len(text) > MAX_TOKEN_BYTES:
        raise InvalidToken("longer than a token may be")
    if not _FORM.fullmatch(text):
        raise InvalidToken("not of the form of a token")
    try:
        header = jwt.get_unverified_header(text)
    except jwt.PyJWTError:
        raise InvalidToken("the header cannot be read") from None
    if foreign := sorted(set(header) - _HEADERS):
        raise InvalidToken(f"the header has {', '.join(map(repr, foreign))}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_TEXT:
        raise InvalidToken("no kid")
    return kid


def read_token(text: str, signer: Signer, *, audience: str, now: datetime) -> Claims:
    """The claims of a token, if this signer signed it and its time has come and not gone. InvalidToken."""
    try:
        claims = jwt.decode(
            text,
            signer.key,
            algorithms=[signer.algorithm],
            audience=audience,
            options={
                "require": ["exp", "aud"],
                "verify_exp": False,  # ours, below: at one clock, and never leniently
                "verify_nbf": False,
                "verify_iat": False,
                "enforce_minimum_key_length": True,
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise InvalidToken(type(error).__name__) from None
    expires_at = _time(claims["exp"], "exp")
    if "iat" in claims and expires_at - _time(claims["iat"], "iat") > MAX_LIFE:
        raise InvalidToken("lives longer than 24 hours")
    read = Claims(
        expires_at,
        _time(claims["nbf"], "nbf") if "nbf" in claims else None,
        _text(claims["sub"], "sub") if "sub" in claims else None,
        frozenset(_names(claims["scopes"], "scopes")) if "scopes" in claims else None,
        _names(claims["endpoints"], "endpoints") if "endpoints" in claims else None,
        _pins(claims.get("pins", {})),
    )
    read.check(now)
    return read


def _time(value: object, claim: str) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise InvalidToken(f"{claim} is no time")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError):
        raise InvalidToken(f"{claim} is no time") from None


def _text(value: object, claim: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise InvalidToken(f"{claim} is no text of 1 to {MAX_TEXT} characters")
    return value


def _names(value: object, claim: str) -> tuple[str, ...]:
    """A list of scopes or globs. What is none of ours would be ignored in silence: it is refused."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_NAMES:
        raise InvalidToken(f"{claim} is no list of 1 to {MAX_NAMES} names")
    for name in value:
        if not isinstance(name, str) or not RIGHTS[claim].fullmatch(name):
            raise InvalidToken(f"{claim} names what is none")
    return tuple(value)


def _pins(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_NAMES:
        raise InvalidToken("pins is no object of names and values")
    for name, pin in value.items():
        if not RIGHTS["pins"].fullmatch(name) or not isinstance(pin, str) or len(pin) > MAX_PIN:
            raise InvalidToken("pins holds what is no name and text")
    return dict(value)
