"""`endpoints keys`: who may call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, moment, print_json, print_table
from endpoints.cli.project import read_settings

if TYPE_CHECKING:
    from datetime import timedelta

    from endpoints.keys import KeyRecord, KeyStore
    from endpoints.settings import Settings

key_id = click.argument("key_id", metavar="ID")


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys.

    \b
    endpoints keys create --name app
    endpoints keys list
    endpoints keys revoke 632ce2820bd0986e
    """


@keys.command()
@click.option("--name", required=True, help="Whose key it is, for people.")
@click.option("--scopes", help="Of run, read, admin. [default: run,read; with --pin run]")
@click.option("--endpoints", "globs", default="*", show_default=True, metavar="GLOBS", help="Only these.")
@click.option(
    "--pin", "pins", multiple=True, metavar="NAME=VALUE", help="Fix a variable, as customer_id=acme."
)
@click.option("--rate", metavar="N/UNIT", help="As 100/minute.")
@click.option("--expires", metavar="DURATION", help="As 90d. [default: never]")
@click.option(
    "--signing",
    type=click.Choice(["EdDSA", "ES256", "HS256"]),
    help="It may sign tokens for browsers; its signing key is shown too.",
)
@as_json
def create(
    name: str,
    scopes: str | None,
    globs: str,
    pins: tuple[str, ...],
    rate: str | None,
    expires: str | None,
    signing: str | None,
    as_json: bool,
) -> None:
    """Make a key. It is shown this once; only a hash of it is kept.

    With --signing there is a second line: a JWK to sign tokens with, for `endpoints token --key FILE` or any
    library of JWTs. Only its public half is kept.

    \b
    endpoints keys create --name "marketing site" --endpoints 'landing_*' --rate 100/minute
    endpoints keys create --name acme --pin customer_id=cust_42 --expires 90d
    endpoints keys create --name web --signing EdDSA | tail -n 1 > web.jwk
    """
    life, settings = duration("--expires", expires), read_settings()
    signer = _Signing.of(signing, settings)
    record, text = open_keys(settings).create(
        name,
        scopes=None if scopes is None else split(scopes),
        endpoints=split(globs),
        pins=dict(pin_of(pin) for pin in pins),
        rate=rate,
        expires_at=datetime.now(UTC) + life if life else None,
        signing=signer.public,
    )
    _hand_over(record, text, signer, as_json)


@keys.command("list")
@as_json
def list_keys(as_json: bool) -> None:
    """List the keys, ended ones too. Nothing secret is shown.

    \b
    endpoints keys list
    endpoints keys list --json
    """
    store = open_keys(read_settings())
    ended, now = store.revoked(), datetime.now(UTC)
    used = store.last_used.read()
    rows = [
        _described(record) | {"last_used": moment(used.get(record.id)), "state": _state(record, ended, now)}
        for record in store.all()
    ]
    if as_json:
        print_json(rows)
    else:
        headings = ("id", "name", "scopes", "endpoints", "pins", "rate", "expires", "last_used", "state")
        print_table(headings, ([_cell(row[heading]) for heading in headings] for row in rows))


@keys.command()
@key_id
def revoke(key_id: str) -> None:
    """End a key, for good. Every server knows within five seconds.

    \b
    endpoints keys revoke 632ce2820bd0986e
    """
    _store_with(key_id).revoke(key_id)
    messages().print(f"{key_id} is revoked.", markup=False)


@keys.command()
@as_json
def audit(as_json: bool) -> None:
    """Show who made, rotated and revoked which key, and when.

    \b
    endpoints keys audit
    endpoints keys audit --json
    """
    entries = open_keys(read_settings()).audit.entries()
    rows = [
        {"at": moment(entry.at), "who": entry.who, "what": entry.what, "key": entry.key, **entry.details}
        | {"signed": entry.signed}
        for entry in entries
    ]
    if as_json:
        print_json(rows)
    else:
        headings = ("at", "who", "what", "key", "name")
        print_table(headings, ([_cell(row.get(heading)) for heading in headings] for row in rows))


@keys.command()
@key_id
@click.option(
    "--overlap", metavar="DURATION", help="How long the old key goes on, as 1d. [default: ends now]"
)
@as_json
def rotate(key_id: str, overlap: str | None, as_json: bool) -> None:
    """Make a new key with the rights of an old one, which ends, and the tokens that it signed with it.

    \b
    endpoints keys rotate 632ce2820bd0986e
    endpoints keys rotate 632ce2820bd0986e --overlap 1d --json
    """
    from datetime import timedelta

    goes_on = duration("--overlap", overlap) or timedelta(0)
    settings, store = read_settings(), _store_with(key_id)
    old = store.get(key_id)
    signer = _Signing.of(old.signing["alg"] if old and old.signing else None, settings)
    record, text = store.rotate(key_id, overlap=goes_on, signing=signer.public)
    _hand_over(record, text, signer, as_json)


def open_keys(settings: Settings) -> KeyStore:
    """The keys of the project, in the lake or where ENDPOINTS_KEYS_URL says."""
    from endpoints.keys import KeyStore

    return KeyStore.open(settings)


def _store_with(key_id: str) -> KeyStore:
    store = open_keys(read_settings())
    if key_id not in {record.id for record in store.all()}:
        raise click.UsageError(f"There is no key {key_id!r}. `endpoints keys list` shows them.")
    return store


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def pin_of(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--pin {text!r} is not NAME=VALUE, as customer_id=acme.")
    return name, value


def duration(option: str, text: str | None) -> timedelta | None:
    from endpoints.units import parse_duration

    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}.") from None


@dataclass(frozen=True, slots=True)
class _Signing:
    """The halves of a new signing key: what the record holds, and what its holder signs with."""

    public: dict[str, str] | None
    private: Callable[[str], dict[str, str] | None]  # by the id of the key

    @classmethod
    def of(cls, algorithm: str | None, settings: Settings) -> _Signing:
        from endpoints import tokens
        from endpoints.errors import SettingsError

        if algorithm is None:
            return cls(None, lambda key_id: None)
        if algorithm == "HS256":
            if settings.token_secret is None:
                raise SettingsError("ENDPOINTS_TOKEN_SECRET: must be set for HS256: `openssl rand -hex 32`")
            secret = settings.token_secret.get_secret_value()
            return cls(tokens.public_half({"alg": "HS256"}), lambda key_id: tokens.secret_jwk(secret, key_id))
        jwk = tokens.new_signing_key(algorithm)
        return cls(tokens.public_half(jwk), lambda key_id: {**jwk, "kid": key_id})


def _hand_over(record: KeyRecord, text: str, signer: _Signing, as_json: bool) -> None:
    """Show the key and what it signs with, the only time that anyone can."""
    jwk = signer.private(record.id)
    if as_json:
        shown = {"id": record.id, "key": text, **_described(record)}
        print_json(shown if jwk is None else shown | {"signing_key": jwk})
        return
    click.echo(text)
    if jwk is not None:
        click.echo(json.dumps(jwk))
    messages().print("Keep it: it is not shown again. Send it as `Authorization: Bearer …`.", markup=False)


def _described(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "scopes": sorted(record.scopes),
        "endpoints": list(record.endpoints),
        "pins": dict(record.pins),
        "rate": record.rate,
        "signing": record.signing["alg"] if record.signing else None,
        "expires": moment(record.expires_at),
        "created": moment(record.created_at),
    }


def _state(record: KeyRecord, ended: frozenset[str], now: datetime) -> str:
    if record.id in ended:
        return "revoked"
    return "expired" if record.expires_at and record.expires_at <= now else "active"


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, dict):
        return escape(", ".join(f"{name}={pin}" for name, pin in value.items()))
    return escape(", ".join(value) if isinstance(value, list) else value or "")
