"""Exact counting of repeated keys over a stream of rows, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa

from endpoints.scratch import Scratch

PARTS = 64
HELD_BYTES = 64 << 20
HELD_ROWS = 262_144
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
        self._scratch: Scratch | None = None

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
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

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
        if self._scratch is None:
            self._scratch = Scratch("unique")
        part = (rows.drop(_COUNT).hash_rows() % PARTS).alias(_PART)
        pieces = rows.with_columns(part).partition_by(_PART, include_key=False, as_dict=True)
        for (number,), piece in pieces.items():
            table = piece.to_arrow()
            # Streams one after another in one file: no file stays open between spills.
            with self._file(int(number)).open("ab") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        self._held, self._size = [], 0

    def _parts(self) -> Iterator[pl.DataFrame]:
        if self._scratch is None:
            if self._held:
                yield _count(pl.concat(self._held))
            return
        if self._held:
            self._spill(pl.concat(self._held))
        for number in range(PARTS):
            if self._file(number).exists():
                yield _count(pl.concat(_streams(self._file(number))))

    def _file(self, number: int) -> Path:
        assert self._scratch is not None
        return self._scratch.path / f"{number}.arrows"


class RunDuplicateFinder:
    """The same count for rows that come sorted by the columns `within`, which are a part of the key.

    Rows that agree in these, a *run*, lie together, so a key can repeat only within its run. Where the rows
    of a run are sorted by the rest of the key too, in any order of its columns and in either direction,
    comparing neighbours proves that no key repeats, for a fraction of what hashing costs. What is not proved
    so is counted by a DuplicateFinder, and so is a run of more than `held_rows`.
    """

    def __init__(self, within: Sequence[str], *, held_rows: int = HELD_ROWS) -> None:
        self._within, self._held_rows = tuple(within), held_rows
        self._finder = DuplicateFinder()
        self._run: pl.DataFrame | None = None  # rows of the run that has not ended
        self._counted = False  # the finder has them; what is kept of them is the last one

    def add(self, keys: pl.DataFrame) -> None:
        """Take in one batch: the key columns only. ValueError where it is not sorted."""
        rows = keys if self._run is None else pl.concat([self._run, keys])
        same = self._same_run(rows)
        starts = (~same).arg_true() + 1
        last = int(starts[-1]) if len(starts) else 0
        if self._counted:
            ended = int(starts[0]) if len(starts) else len(rows)
            self._finder.add(rows[1:ended])
            self._counted = not len(starts)
            self._prove(rows[ended:last], same[ended:])
        else:
            self._prove(rows[:last], same)
        self._run = rows[-1:] if self._counted else rows[last:]
        if len(self._run) > self._held_rows:
            self._finder.add(self._run)
            self._run, self._counted = self._run[-1:], True

    def finish(self, examples: int = 5) -> Duplicates:
        """Count what was added, and drop the temporary files."""
        if self._run is not None and not self._counted:
            self._prove(self._run, self._same_run(self._run))
        self._run = None
        return self._finder.finish(examples)

    def close(self) -> None:
        """Forget everything, on disk too."""
        self._run = None
        self._finder.close()

    def _same_run(self, rows: pl.DataFrame) -> pl.Series:
        """For each row but the first: whether it is of the run of the row before."""
        same = pl.repeat(True, max(0, len(rows) - 1), eager=True)
        for name in self._within:
            equal, greater = _compared(rows[name])
            if not (~same | equal | greater | rows[name][1:].is_null()).all():  # NULL comes last
                raise ValueError(f"rows are not sorted by {', '.join(self._within)}")
            same &= equal
        return same

    def _prove(self, rows: pl.DataFrame, same: pl.Series) -> None:
        """Proves that no key of these whole runs repeats, or lets the finder count."""
        same = same[: max(0, len(rows) - 1)]
        rest = [name for name in rows.columns if name not in self._within]
        while same.any():
            for name in rest:
                if (equal := _equal_where_sorted(rows[name], same)) is not None:
                    rest.remove(name)
                    same = same & equal
                    break
            else:
                self._finder.add(rows)
                return


def _equal_where_sorted(column: pl.Series, same: pl.Series) -> pl.Series | None:
    """Which values equal the one before; None unless the rows that are the `same` as the one before are
    sorted by the column, up or down.
    """
    if column.dtype.is_nested() or column.has_nulls():
        return None
    equal, greater = _compared(column)
    is_sorted = (~same | equal | greater).all() or (~same | ~greater).all()
    return equal if is_sorted else None


def _compared(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Whether each value but the first equals the one before, and whether it is greater."""
    now, before = column[1:], column[:-1]
    return now.eq_missing(before), (now > before).fill_null(False)


def _count(counted: pl.DataFrame) -> pl.DataFrame:
    keys = [name for name in counted.columns if name != _COUNT]
    return counted.group_by(keys).agg(pl.col(_COUNT).sum())


def _streams(path: Path) -> Iterable[pl.DataFrame]:
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            yield cast(pl.DataFrame, pl.from_arrow(pa.ipc.open_stream(file).read_all()))
