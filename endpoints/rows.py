"""Rows: what the asset path and the live path both give."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from endpoints.types import Column


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of results.

    `table` holds `columns` in their order, each in its storage form (`endpoints.types.storage_type`).
    `timezone` is the server's, for columns whose type names none. `has_more` says that rows follow.
    """

    columns: tuple[Column, ...]
    table: pa.Table
    timezone: str
    has_more: bool
