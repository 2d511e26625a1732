"""Rows as Markdown tables, for the metadata that Dagster shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from endpoints.types import Column, json_values

_LONGEST_CELL: Final = 60


def markdown(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are shortened, and hold no markup."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def markdown_rows(columns: Sequence[Column], arrays: Sequence[pa.ChunkedArray], timezone: str) -> str:
    """Rows in storage form as a table, their values as JSON shows them."""
    values = [
        json_values(array.combine_chunks(), column.type, timezone=timezone)
        for column, array in zip(columns, arrays, strict=True)
    ]
    return markdown([column.name for column in columns], zip(*values, strict=True))


def _cell(value: object) -> str:
    text = re.sub(r"([\\`|<>])", r"\\\1", " ".join(str("" if value is None else value).split()))
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"
