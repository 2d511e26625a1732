"""Exact counting of repeated keys over a stream of rows, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa

PARTS = 64
HELD_BYTES = 64 << 20
_COUNT, _PART = "__count", "__part"


@dataclass(frozen=True, slots=True)
class Duplicates:
    """`surplus`: rows whose key an earlier row had already; `examples`: a few such keys, as stored."""

    surplus: int
    examples: pl.DataFrame


class DuplicateFinder:
    """Counts keys that occur more than once.

    Keys are held in memory up to `held_bytes`, then spread by hash over files in a temporary folder, so that
    one key always lands in one file and each file can be counted by itself (as in a Grace hash join): memory
    is bounded by `held_bytes` and by a `PARTS`-th of the keys. Keys are compared as whole values, so two keys
    that share a hash are not confused. The order of rows does not matter.
    """

    def __init__(self, *, held_bytes: int = HELD_BYTES) -> None:
        self._held_bytes = held_bytes
        self._held: list[pl.DataFrame] = []
        self._size = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, keys: pl.DataFrame) -> None:
        """Take in one batch: the key columns only."""
        rows = keys.with_columns(pl.lit(1, dtype=pl.UInt64).alias(_COUNT))
        self._held.append(rows)
        self._size += int(rows.estimated_size())
        if self._size >= self._held_bytes:
            self._relieve()

    def finish(self, examples: int = 5) -> Duplicates:
        """Count what was added, and drop the temporary files."""
        surplus, found = 0, list[pl.DataFrame]()
        for counted in self._parts():
            repeated = counted.filter(pl.col(_COUNT) > 1)
            surplus += int((repeated[_COUNT] - 1).sum())
            found.append(repeated.drop(_COUNT).head(examples))
        self.close()
        return Duplicates(surplus, pl.concat(found).head(examples) if found else pl.DataFrame())

    def close(self) -> None:
        """Forget everything, on disk too."""
        self._held, self._size = [], 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _relieve(self) -> None:
        """Merge what is held where that halves it, so that a few keys without end never reach the disk."""
        rows = pl.concat(self._held)
        if rows.drop(_COUNT).hash_rows().n_unique() > len(rows) // 2:
            self._spill(rows)
            return
        merged = _count(rows)
        self._held, self._size = [merged], int(merged.estimated_size())
        if self._size >= self._held_bytes // 2:
            self._spill(merged)

    def _spill(self, rows: pl.DataFrame) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="endpoints-unique-")
        part = (rows.drop(_COUNT).hash_rows() % PARTS).alias(_PART)
        pieces = rows.with_columns(part).partition_by(_PART, include_key=False, as_dict=True)
        for (number,), piece in pieces.items():
            table = piece.to_arrow()
            # Streams one after another in one file: no file stays open between spills.
            with self._file(int(number)).open("ab") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        self._held, self._size = [], 0

    def _parts(self) -> Iterator[pl.DataFrame]:
        if self._folder is None:
            if self._held:
                yield _count(pl.concat(self._held))
            return
        if self._held:
            self._spill(pl.concat(self._held))
        for number in range(PARTS):
            if self._file(number).exists():
                yield _count(pl.concat(_streams(self._file(number))))

    def _file(self, number: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"{number}.arrows"


def _count(counted: pl.DataFrame) -> pl.DataFrame:
    keys = [name for name in counted.columns if name != _COUNT]
    return counted.group_by(keys).agg(pl.col(_COUNT).sum())


def _streams(path: Path) -> Iterable[pl.DataFrame]:
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            yield cast(pl.DataFrame, pl.from_arrow(pa.ipc.open_stream(file).read_all()))
