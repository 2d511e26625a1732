"""Rows: what the asset path and the live path both give."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import pyarrow as pa

from endpoints.packing import unpack
from endpoints.types import Column, storage_schema


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of results.

    `packed` holds `columns` in their order, each in its storage form (`endpoints.types.storage_type`) or,
    read from memory, as it is packed there (`endpoints.packing`), for formats that show values as text.
    `timezone` is the server's, for columns whose type names none. `has_more` says that rows follow. `mapped`
    is the file that a large table lies in; `total` counts the rows of all pages, where that was asked.
    """

    columns: tuple[Column, ...]
    packed: pa.Table
    timezone: str
    has_more: bool
    mapped: mmap.mmap | None = None
    total: int | None = None

    @property
    def size(self) -> int:
        """How many rows there are."""
        return int(self.packed.num_rows)

    @property
    def table(self) -> pa.Table:
        """The rows in storage form."""
        return unpack(self.packed, storage_schema(self.columns))

    def forget(self) -> None:
        """Let go of the memory that was read from the file: what is read again comes from there again."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on every system
            self.mapped.madvise(mmap.MADV_DONTNEED)
