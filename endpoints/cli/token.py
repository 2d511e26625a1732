"""`endpoints token`: a token for a browser, signed here and now, without asking any server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from endpoints.cli.keys import duration, pin_of, split
from endpoints.cli.output import as_json, moment, print_json
from endpoints.cli.project import read_settings


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--key", "file", type=click.File(), required=True, help="The JWK of a signing key; - reads it.")
@click.option("--pin", "pins", multiple=True, metavar="NAME=VALUE", help="Fix a variable.")
@click.option("--subject", help="Whom it is for: `sub`, which has a rate of its own.")
@click.option("--scopes", help="Of run, read, admin. [default: run]")
@click.option("--expires", default="15m", show_default=True, metavar="DURATION", help="At most 24h.")
@click.option("--audience", help="`aud`. [default: ENDPOINTS_TOKEN_AUDIENCE]")
@as_json
def token(
    names: tuple[str, ...],
    file: TextIO,
    pins: tuple[str, ...],
    subject: str | None,
    scopes: str | None,
    expires: str,
    audience: str | None,
    as_json: bool,
) -> None:
    """Sign a token for the endpoints NAME (globs; default: all of its key), for a browser to send.

    \b
    endpoints keys create --name web --signing EdDSA | tail -n 1 > web.jwk
    endpoints token customer_usage --key web.jwk --pin customer_id=cust_42 --expires 15m
    """
    from endpoints.tokens import MAX_LIFE, mint

    life = duration("--expires", expires)
    if not life or life > MAX_LIFE:
        raise click.UsageError("--expires: more than nothing and at most 24h.")
    audience = audience or read_settings().token_audience
    expires_at = datetime.now(UTC) + life
    jwk = _jwk(file)
    try:
        text = mint(
            jwk,
            audience=audience,
            expires_at=expires_at,
            subject=subject,
            scopes=split(scopes or ""),
            endpoints=names,
            pins=dict(pin_of(pin) for pin in pins),
        )
    except ValueError as error:
        raise click.UsageError(f"--key: {error}.") from None
    if as_json:
        print_json({"token": text, "kid": jwk["kid"], "audience": audience, "expires": moment(expires_at)})
    else:
        click.echo(text)


def _jwk(file: TextIO) -> dict[str, Any]:
    try:
        jwk = json.load(file)
    except ValueError:
        jwk = None
    if not isinstance(jwk, dict):
        raise click.UsageError("--key: the file holds no JWK, the second line of `keys create --signing`.")
    return jwk
