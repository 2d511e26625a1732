"""Reading an asset: seek the key's rows, filter, take the page. The path of a read, top to bottom."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from endpoints.errors import Corrupt, Unservable, WarehouseError
from endpoints.lake.files import FileCache
from endpoints.lake.filter import bound_values, check_aligned, request_filter, scalar_of
from endpoints.lake.manifest import UNPARTITIONED, Manifest, PartitionEntry
from endpoints.lake.rows import RowGroups, Sought
from endpoints.query.bind import Bound
from endpoints.query.plan import Cut, Plan, plan_at
from endpoints.query.plan.conditions import ARROW_ORDER
from endpoints.query.plan.reading import finishing, parameters, rows_columns, variables_of
from endpoints.rows import Rows
from endpoints.spool import Spool, spool_in_temporary_folder
from endpoints.types import ClickHouseType, Column, storage_schema
from endpoints.warehouse.finish import Finisher
from endpoints.warehouse.protocol import Caps, Statement

DECODED_BYTES = 256 * 2**20
FINISH_BYTES = 512 * 2**20
LARGE_PAGE = 100_000  # rows; a page that may have more is put together in a file


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some of the selected rows, decoded and filtered when asked for; `rows` counts them where that is
    known.
    """

    rows: int | None
    load: Callable[[], pa.Table]


@dataclass(frozen=True, slots=True)
class _Window:
    """Rows to skip, and how many to take of what follows (one more than the page shows if rows may
    follow).
    """

    skip: int
    take: int


class AssetReader:
    """Answers requests from published files. Decoded row groups and footers stay in memory, up to `budget`
    bytes in all; a read that is under way holds the row groups it looks at beside that.
    """

    def __init__(
        self,
        files: FileCache,
        *,
        budget: int = DECODED_BYTES,
        finisher: Finisher | None = None,
        spool: Callable[[], Spool] = spool_in_temporary_folder,
    ) -> None:
        self._files, self._groups = files, RowGroups(budget)
        pa.scalar(0)  # with its first value pyarrow imports pandas, for up to half a second: not in a request
        self._finisher = finisher or Finisher()
        self._spool = spool

    @property
    def held_bytes(self) -> int:
        """What stays in memory now."""
        return self._groups.held_bytes

    def close(self) -> None:
        """End the workers that evaluate what Arrow cannot."""
        self._finisher.close()

    def read(
        self,
        manifest: Manifest,
        plan: Plan,
        bound: Bound,
        *,
        limit: int | None,
        offset: int,
        max_rows: int,
        count: bool = False,
    ) -> Rows:
        """One page of the rows that the bound variables select, in the query's order.

        `limit` counts rows of the page (None: up to `max_rows`); `has_more` says that rows follow; with
        `count`, `total` says how many there are in all. A page of many rows lies in a file. Raises
        Corrupt (MissingFile where a file is gone: read the head again and try once more), StoreUnavailable,
        and Unservable where ClickHouse cannot finish the answer here, or a bound lies within a bucket
        (Unaligned): the query is to run live.
        """
        entry = manifest.partitions[UNPARTITIONED]
        plan = plan_at(plan, bound.version.clock, entry.as_of)
        columns = _result_columns(entry, plan)
        check_aligned(plan.conditions, entry.columns, bound, manifest.server.timezone)
        page = max_rows if limit is None else min(limit, max_rows)
        if plan.finish is not None:
            columns, answer = self._finished(manifest, entry, plan, bound)
            follows = answer.num_rows > offset + page
            total = answer.num_rows if count else None
            return Rows(columns, answer.slice(offset, page), manifest.server.timezone, follows, total=total)
        window, large = _window(plan.cut, bound, page, offset), page > LARGE_PAGE
        kept = _take(self._pieces(manifest, entry, plan, bound, keep=not large), window)
        table, mapped = self._whole(columns, kept, large)
        total = self._total(manifest, entry, plan, bound) if count else None
        follows = table.num_rows > page
        return Rows(columns, table.slice(0, page), manifest.server.timezone, follows, mapped, total)

    def _whole(
        self, columns: tuple[Column, ...], kept: Iterator[pa.Table], large: bool
    ) -> tuple[pa.Table, mmap.mmap | None]:
        """The page as one table, in a file where it may be `large`: before a byte is sent all is read."""
        batches = (batch for rows in kept for batch in rows.select(range(len(columns))).to_batches())
        if not large:
            return pa.Table.from_batches(batches, storage_schema(columns)), None
        with self._spool() as spool:
            for batch in batches:
                spool.add(batch)
            return spool.table(columns), spool.mapped

    def _total(self, manifest: Manifest, entry: PartitionEntry, plan: Plan, bound: Bound) -> int:
        """The rows of all pages."""
        pieces = self._pieces(manifest, entry, plan, bound)
        found = sum(piece.load().num_rows if piece.rows is None else piece.rows for piece in pieces)
        limit, skip = _count(plan.cut.limit, bound), _count(plan.cut.offset, bound) or 0
        found = max(0, found - skip)
        return found if limit is None else min(found, limit)

    def _pieces(
        self, manifest: Manifest, entry: PartitionEntry, plan: Plan, bound: Bound, *, keep: bool = True
    ) -> Iterator[_Piece]:
        """The selected rows in order, some at a time. `keep`: what is decoded stays in memory."""
        types = {column.name: column.type for column in entry.columns}
        sought = _sought(types, plan, bound)
        if sought is None:
            return
        asked = request_filter(plan.conditions, types, bound, manifest.server.timezone)
        found = self._seek(manifest, entry, sought, keep=keep)
        if asked.passes_all:
            yield from found
            return
        compared = (asked.compare(piece.load()) for piece in found)
        for rows in asked.evaluate(compared, self._run):
            yield _Piece(rows.num_rows, lambda rows=rows: rows)  # type: ignore[misc]

    def _finished(
        self, manifest: Manifest, entry: PartitionEntry, plan: Plan, bound: Bound
    ) -> tuple[tuple[Column, ...], pa.Table]:
        """The whole answer, which ClickHouse makes of the rows of the key."""
        columns, state_types = rows_columns(plan, entry.columns)
        sought = _sought({column.name: column.type for column in columns}, plan, bound)
        types = {column.name: column.type for column in columns}
        asked = request_filter(plan.conditions, types, bound, manifest.server.timezone)
        kept, size = [], 0
        for piece in () if sought is None else self._seek(manifest, entry, sought):
            kept.append(asked.compare(piece.load()))
            size += kept[-1].nbytes
            if size > FINISH_BYTES:
                raise Unservable(f"more than {FINISH_BYTES} bytes of rows would have to be finished")
        rows = pa.concat_tables(kept) if kept else storage_schema(entry.columns).empty_table()
        given = rows.rename_columns([column.name for column in columns])
        used = parameters(variables_of(plan, asked.evaluated), bound_values(bound))
        statement = Statement(finishing(plan, asked.evaluated, state_types), used)
        caps = Caps(timeout=bound.version.limits.timeout)
        return self._run(statement, columns, given, timezone=manifest.server.timezone, caps=caps)

    def _run(
        self, statement: Statement, columns: Sequence[Column], rows: pa.Table, *, timezone: str, caps: Caps
    ) -> tuple[tuple[Column, ...], pa.Table]:
        """Run what Arrow cannot. Whatever stops it, the query itself may still be answered live."""
        try:
            return self._finisher.run(statement, columns, rows, timezone=timezone, caps=caps)
        except WarehouseError as error:
            raise Unservable(str(error)) from error

    def _seek(
        self, manifest: Manifest, entry: PartitionEntry, sought: tuple[Sought, ...], *, keep: bool = True
    ) -> Iterator[_Piece]:
        """The rows of the key, row group by row group."""
        names = tuple(one.column for one in sought)
        for file in entry.files:
            load = partial(self._files.local, manifest.endpoint, manifest.version, file)
            footer = self._groups.footer(file.path, names, load)
            for group in footer.seek(sought):
                rows = partial(self._groups.rows, footer, group, sought, load, keep=keep)
                yield _Piece(None if sought else group.rows, rows)


def _result_columns(entry: PartitionEntry, plan: Plan) -> tuple[Column, ...]:
    """The columns that callers see: all but the plan's hidden ones, which come last."""
    width = len(entry.columns) - len(plan.hidden)
    if tuple(column.name.partition(" ")[0] for column in entry.columns[max(0, width) :]) != plan.hidden:
        raise Corrupt(f"run {entry.run_id}", "was made by another plan")
    return entry.columns[:width]


def _window(cut: Cut, bound: Bound, page: int, offset: int) -> _Window:
    limit, skip = _count(cut.limit, bound), _count(cut.offset, bound) or 0
    take = page + 1 if limit is None else min(page + 1, max(0, limit - offset))
    return _Window(skip + offset, take)


def _count(number: int | str | None, bound: Bound) -> int | None:
    if not isinstance(number, str):
        return number
    value = bound.values[number]
    assert isinstance(value, int), f"{number} is of an unsigned type"
    return value


def _take(pieces: Iterator[_Piece], window: _Window) -> Iterator[pa.Table]:
    """The window's rows; what lies before it is not decoded where its size is known."""
    skip, take = window.skip, window.take
    for piece in pieces if take else ():
        if piece.rows is not None and piece.rows <= skip:
            skip -= piece.rows
            continue
        rows = piece.load()
        part = rows.slice(skip, take)
        skip = max(0, skip - rows.num_rows)
        if part.num_rows:
            yield part
            take -= part.num_rows
        if not take:
            break


def _sought(types: Mapping[str, ClickHouseType], plan: Plan, bound: Bound) -> tuple[Sought, ...] | None:
    """What to seek; None where nothing can be equal: to NULL, to a number that the column cannot hold."""
    found = []
    for dimension in plan.seek:
        assert dimension.variable is not None
        value, type_ = bound.values[dimension.variable], types[dimension.column]
        variable = bound.version.variables[dimension.variable].type
        scalar = None if value is None else scalar_of(type_, variable, value)
        if scalar is None:
            return None
        found.append(Sought(dimension.column, scalar, type_.base.name in ARROW_ORDER))
    return tuple(found)
