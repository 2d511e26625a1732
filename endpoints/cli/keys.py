"""`endpoints keys`: who may call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import as_json, messages, print_json, print_table
from endpoints.cli.project import read_settings

if TYPE_CHECKING:
    from endpoints.keys import KeyRecord, KeyStore
    from endpoints.settings import Settings


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command()
@click.option("--name", required=True, help="Whose key it is, for people.")
@click.option("--scopes", default="run,read", show_default=True, help="Of run, read, admin.")
@click.option(
    "--endpoints", "globs", multiple=True, metavar="GLOB", help="Only these endpoints. [default: all]"
)
@click.option(
    "--pin", "pins", multiple=True, metavar="NAME=VALUE", help="Fix a variable, as customer_id=acme."
)
@click.option("--rate", metavar="N/UNIT", help="As 100/minute.")
@click.option("--expires", metavar="DURATION", help="As 90d. [default: never]")
@as_json
def create(
    name: str,
    scopes: str,
    globs: tuple[str, ...],
    pins: tuple[str, ...],
    rate: str | None,
    expires: str | None,
    as_json: bool,
) -> None:
    """Make a key. It is shown this once; only a hash of it is kept.

    \b
    endpoints keys create --name "marketing site" --endpoints 'landing_*' --rate 100/minute
    endpoints keys create --name acme --pin customer_id=cust_42 --expires 90d
    """
    record, key = open_keys(read_settings()).create(
        name,
        scopes=_split(scopes),
        endpoints=[pattern for text in globs for pattern in _split(text)] or ["*"],
        pins=dict(_pin(text) for text in pins),
        rate=rate,
        expires_at=_from_now(expires),
    )
    if as_json:
        print_json({"id": record.id, "key": key, **_described(record)})
        return
    click.echo(key)
    messages().print(
        "Keep it now: it is not shown again. Send it as `Authorization: Bearer …`.", markup=False
    )


@keys.command("list")
@as_json
def list_keys(as_json: bool) -> None:
    """List the keys, without their secrets."""
    store = open_keys(read_settings())
    revoked = set(store.revoked())
    rows = [{"id": r.id, **_described(r), "revoked": r.id in revoked} for r in store.all()]
    if as_json:
        print_json(rows)
        return
    print_table(("id", "name", "scopes", "endpoints", "pins", "expires", ""), map(_cells, rows))


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """End a key, for good, within five seconds."""
    store = open_keys(read_settings())
    _known(store, key_id)
    store.revoke(key_id)
    messages().print(f"{key_id} is revoked.", markup=False)


@keys.command()
@click.argument("key_id", metavar="ID")
@as_json
def rotate(key_id: str, as_json: bool) -> None:
    """Make a new secret for a key, with the same rights, and end the old one."""


def open_keys(settings: Settings) -> KeyStore:
    """The keys of the project, in the lake or where ENDPOINTS_KEYS_URL says."""
    from endpoints.keys import KeyStore

    return KeyStore.open(settings)
