"""How commands print: JSON for programs on standard output, the rest for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    """One line, flushed: a program may be reading while we go on."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def moment(time: datetime | None) -> str | None:
    """A UTC time as the API writes it."""
    return time.isoformat().replace("+00:00", "Z") if time else None


def messages() -> Console:
    """Standard error, for people: progress, hints, warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def answers() -> Console:
    """Standard output, for tables that a person asked for."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 240  # a pipe has no edge to wrap at
    return Console(highlight=False, width=width)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table; cells may hold rich markup, so escape what comes from data."""
    from rich import box
    from rich.table import Table

    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    answers().print(table)
