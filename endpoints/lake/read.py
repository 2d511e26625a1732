"""Reading an asset: seek the key's rows, filter, take the page. The path of a read, top to bottom."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from endpoints.definition.model import Version
from endpoints.errors import Corrupt, Unservable, WarehouseError
from endpoints.lake.files import FileCache
from endpoints.lake.filter import bound_values, check_aligned, request_filter, sought_key
from endpoints.lake.manifest import UNPARTITIONED, Manifest, PartitionEntry
from endpoints.lake.merge import Merge
from endpoints.lake.rows import Compared, RowGroups, Sought
from endpoints.lake.touched import touched
from endpoints.packing import unpack
from endpoints.query.bind import Bound
from endpoints.query.ordering import ordered
from endpoints.query.plan import Condition, Cut, Plan, plan_at
from endpoints.query.plan.check import live_example
from endpoints.query.plan.conditions import ARROW_ORDER
from endpoints.query.plan.model import PART, stored_name
from endpoints.query.plan.reading import (
    asked_of,
    finishing,
    parameters,
    stored_parts,
    try_finish,
    variables_of,
)
from endpoints.rows import Rows
from endpoints.spool import Spool, spool_in_temporary_folder
from endpoints.types import ClickHouseType, Column, storage_schema, storage_type
from endpoints.warehouse.finish import Finisher
from endpoints.warehouse.protocol import Caps, Statement

DECODED_BYTES = 256 * 2**20
FINISH_BYTES = 512 * 2**20
ROWS_AT_ONCE = 1000
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


@dataclass(frozen=True, slots=True)
class _Asset:
    """What a request reads of a snapshot: the entries of partitions, and what they all have in common.

    `as_of` is the moment of a clock: only what has no partitions is bound to one.
    """

    manifest: Manifest
    entries: tuple[PartitionEntry, ...]
    columns: tuple[Column, ...]
    as_of: datetime


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
        self._files: FileCache | _Elsewhere = files
        self._groups = RowGroups(budget)
        pa.scalar(0)  # with its first value pyarrow imports pandas, for up to half a second: not in a request
        self._finisher: Finisher | _Elsewhere = finisher or Finisher()
        self._spool = spool
        self._widths: dict[str, int] = {}
        self._at_once = _AtOnce(self._groups)

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
        `count`, `total` says how many there are in all. A page of many rows lies in a file. Partitions
        that the request can touch and that are not published have no rows. Raises
        Corrupt (MissingFile where a file is gone: read the head again and try once more), StoreUnavailable,
        and Unservable where ClickHouse cannot finish the answer here, or a bound lies within a bucket
        (Unaligned): the query is to run live.
        """
        asset = _asset(manifest, plan, bound)
        plan = plan_at(plan, bound.version.clock, asset.as_of)
        for part, stored in stored_parts(plan, asset.columns):
            check_aligned(part.conditions, stored, bound, manifest.server.timezone)
        page = max_rows if limit is None else min(limit, max_rows)
        if plan.finish is not None:
            columns, answer = self._finished(asset, plan, bound)
            follows = answer.num_rows > offset + page
            total = answer.num_rows if count else None
            return Rows(columns, answer.slice(offset, page), manifest.server.timezone, follows, total=total)
        columns = _result_columns(asset, plan)
        window, large = _window(plan.cut, bound, page, offset), page > LARGE_PAGE
        kept = self._rows(asset, plan, bound, window, keep=not large)
        table, mapped = self._whole(columns, kept, large)
        total = self._total(asset, plan, bound) if count else None
        follows = table.num_rows > page
        if follows:
            table = table.slice(0, page)
        return Rows(columns, table, manifest.server.timezone, follows, mapped, total)

    def read_at_once(
        self, manifest: Manifest, plan: Plan, bound: Bound, *, limit: int, offset: int
    ) -> Rows | None:
        """`read`, where all that it needs is in memory and few rows are found; None where not. It neither
        waits nor takes longer than handing the read to a thread would. Raises as `read` does.
        """
        if plan.finish is not None or not plan.seek or plan.slicing is not None or limit > LARGE_PAGE:
            return None
        try:
            return self._at_once.read(manifest, plan, bound, limit=limit, offset=offset, max_rows=limit)
        except NotAtOnce:
            return None

    def _rows(
        self, asset: _Asset, plan: Plan, bound: Bound, window: _Window, *, keep: bool
    ) -> Iterator[pa.Table]:
        """The window of the selected rows of all partitions together, in order."""
        slicing = plan.slicing
        if slicing is None or slicing.along or len(asset.entries) < 2:
            forth = slicing is None or slicing.along != "desc"
            entries = asset.entries if forth else asset.entries[::-1]
            return _take(self._pieces(asset, entries, plan, bound, keep=keep, packed=True), window)
        types = {column.name: column.type for column in asset.columns}
        asked = request_filter(plan.conditions, types, bound, asset.manifest.server.timezone)
        first = _Window(0, window.skip + window.take)
        if asked.evaluated:  # ClickHouse is asked in few calls, for the rows of all partitions at once
            pieces = (piece.load() for piece in self._pieces(asset, asset.entries, plan, bound, keep=keep))
        else:
            parts = (
                _take(self._pieces(asset, (entry,), plan, bound, keep=keep), first) for entry in asset.entries
            )
            pieces = (rows for part in parts for rows in part)
        width = len(asset.columns) - len(plan.hidden)
        merge = Merge(asset.columns, width, slicing.order, self._run, bound)
        rows = merge.ordered(_within(pieces), asset.manifest.server.timezone)
        return iter([rows.slice(window.skip, window.take)])

    def _whole(
        self, columns: tuple[Column, ...], kept: Iterator[pa.Table], large: bool
    ) -> tuple[pa.Table, mmap.mmap | None]:
        """The page as one table, in a file where it may be `large`: before a byte is sent all is read."""
        width = len(columns)
        parts = (rows.select(range(width)) if rows.num_columns > width else rows for rows in kept)
        if not large:
            found = list(parts)
            if len(found) == 1:
                return found[0], None
            schema = storage_schema(columns)
            whole = [unpack(rows, schema) for rows in found] or [schema.empty_table()]
            return pa.concat_tables(whole), None
        with self._spool() as spool:
            for rows in parts:
                for batch in unpack(rows, storage_schema(columns)).to_batches():
                    spool.add(batch)
            return spool.table(columns), spool.mapped

    def _total(self, asset: _Asset, plan: Plan, bound: Bound) -> int:
        """The rows of all pages."""
        pieces = self._pieces(asset, asset.entries, plan, bound)
        found = sum(piece.load().num_rows if piece.rows is None else piece.rows for piece in pieces)
        limit, skip = _count(plan.cut.limit, bound), _count(plan.cut.offset, bound) or 0
        found = max(0, found - skip)
        return found if limit is None else min(found, limit)

    def _pieces(
        self,
        asset: _Asset,
        entries: Sequence[PartitionEntry],
        plan: Plan,
        bound: Bound,
        *,
        keep: bool = True,
        packed: bool = False,
    ) -> Iterator[_Piece]:
        """The selected rows of some partitions in order, some at a time. `keep`: what is decoded stays in
        memory. `packed`: rows that nothing is compared with may come as they lie there.
        """
        types = {column.name: column.type for column in asset.columns}
        sought = _sought(types, plan, bound)
        if sought is None:
            return
        asked = request_filter(plan.conditions, types, bound, asset.manifest.server.timezone)
        packed = packed and asked.passes_all
        found = self._seek(asset.manifest, entries, sought, asked.compared, keep=keep, packed=packed)
        if asked.passes_all:
            yield from found
            return
        compared = (asked.compare(piece.load()) for piece in found)
        for rows in asked.evaluate(compared, self._run):
            yield _Piece(rows.num_rows, lambda rows=rows: rows)  # type: ignore[misc]

    def _finished(self, asset: _Asset, plan: Plan, bound: Bound) -> tuple[tuple[Column, ...], pa.Table]:
        """The whole answer, which ClickHouse makes of the rows of the key."""
        assert plan.finish is not None
        asked, tables, room = [], {}, FINISH_BYTES
        for number, (part, stored) in enumerate(stored_parts(plan, asset.columns)):
            place = number if plan.parts else None
            rows, conditions = self._selected(asset, part, stored, bound, place, room)
            asked.append(asked_of(part, stored, place, conditions))
            columns = asked[-1].columns
            tables[asked[-1].table] = columns, rows.rename_columns([column.name for column in columns])
            room -= rows.nbytes
        used = parameters(variables_of(plan, asked), bound_values(bound))
        sql = finishing(plan.finish.sql, asked, bound.absent)
        if plan.finish.width is None:
            sql = ordered(sql, self._width(plan, bound.version, asset)).sql
        timezone, caps = asset.manifest.server.timezone, Caps(timeout=bound.version.limits.timeout)
        try:
            return self._finisher.run_over(Statement(sql, used), tables, timezone=timezone, caps=caps)
        except WarehouseError as error:
            raise Unservable(str(error)) from error

    def _selected(
        self,
        asset: _Asset,
        part: Plan,
        stored: Sequence[Column],
        bound: Bound,
        number: int | None,
        room: int,
    ) -> tuple[pa.Table, Sequence[Condition]]:
        """One stored SELECT's rows of the key, in up to `room` bytes, and what Arrow has not filtered by."""
        types, names = {column.name: column.type for column in stored}, [column.name for column in stored]
        sought = _sought(types, part, bound)
        asked = request_filter(part.conditions, types, bound, asset.manifest.server.timezone)
        compared = asked.compared
        if sought is not None and number is not None:
            sought = (_part(number), *(replace(s, column=stored_name(number, s.column)) for s in sought))
            compared = tuple(replace(c, column=stored_name(number, c.column)) for c in compared)
        found = () if sought is None else self._seek(asset.manifest, asset.entries, sought, compared)
        loaded = (piece.load() for piece in found)
        if number is not None:
            own = [stored_name(number, name) for name in names]
            loaded = (rows.select(own).rename_columns(names) for rows in loaded)
        kept = _within((asked.compare(rows) for rows in loaded), room)
        rows = pa.concat_tables(kept) if kept else storage_schema(stored).empty_table()
        return rows, asked.evaluated

    def _width(self, plan: Plan, version: Version, asset: _Asset) -> int:
        """How many columns the answer has, where the query's text does not tell; asked once."""
        key = f"{asset.manifest.endpoint}@{asset.manifest.version} {version.fingerprint}"
        if key not in self._widths:
            try:
                answered = try_finish(plan, live_example(version), asset.columns, self._finisher)
            except WarehouseError as error:
                raise Unservable(str(error)) from error
            self._widths[key] = len(answered)
        return self._widths[key]

    def _run(
        self, statement: Statement, columns: Sequence[Column], rows: pa.Table, *, timezone: str, caps: Caps
    ) -> tuple[tuple[Column, ...], pa.Table]:
        """Run what Arrow cannot. Whatever stops it, the query itself may still be answered live."""
        try:
            return self._finisher.run(statement, columns, rows, timezone=timezone, caps=caps)
        except WarehouseError as error:
            raise Unservable(str(error)) from error

    def _seek(
        self,
        manifest: Manifest,
        entries: Sequence[PartitionEntry],
        sought: tuple[Sought, ...],
        compared: tuple[Compared, ...],
        *,
        keep: bool = True,
        packed: bool = False,
    ) -> Iterator[_Piece]:
        """The rows of the key, row group by row group; those that can hold none that passes are left out."""
        columns = [*(one.column for one in sought), *(one.column for one in compared)]
        names = tuple(dict.fromkeys(columns))
        for file in (file for entry in entries for file in entry.files):
            load = partial(self._files.local, manifest.endpoint, manifest.version, file)
            footer = self._groups.footer(file.path, names, load)
            for group in footer.seek(sought, compared):
                rows = partial(self._groups.rows, footer, group, sought, load, keep=keep, packed=packed)
                yield _Piece(None if sought else group.rows, rows)


class NotAtOnce(Exception):
    """A read would have to wait, or to look at many rows."""


class _Elsewhere:
    """Stands where a reader would go for what is not in memory."""

    def __getattr__(self, name: str) -> Any:
        return _not_at_once


def _not_at_once(*given: object, **named: object) -> Any:
    raise NotAtOnce


class _AtOnce(AssetReader):
    """Reads what is in memory already, and few rows of it."""

    def __init__(self, groups: RowGroups) -> None:
        self._files = self._finisher = _Elsewhere()
        self._groups, self._widths = groups, {}

    def _seek(
        self,
        manifest: Manifest,
        entries: Sequence[PartitionEntry],
        sought: tuple[Sought, ...],
        compared: tuple[Compared, ...],
        *,
        keep: bool = True,
        packed: bool = False,
    ) -> Iterator[_Piece]:
        for piece in super()._seek(manifest, entries, sought, compared, keep=keep, packed=packed):
            yield _Piece(piece.rows, partial(_few, piece.load))


def _few(load: Callable[[], pa.Table]) -> pa.Table:
    rows = load()
    if rows.num_rows > ROWS_AT_ONCE:
        raise NotAtOnce
    return rows


def _asset(manifest: Manifest, plan: Plan, bound: Bound) -> _Asset:
    """The published partitions that are read, oldest first, and the columns that they all have."""
    if plan.slicing is None:
        entry = manifest.partitions[UNPARTITIONED]
        return _Asset(manifest, (entry,), entry.columns, entry.as_of)
    fingerprint, published = bound.version.fingerprint, manifest.partitions
    needed = touched(plan, bound, manifest, bound.now or datetime.now(UTC))
    keys = sorted(published if needed is None else published.keys() & set(needed))
    entries = tuple(published[key] for key in keys if published[key].fingerprint == fingerprint)
    some = entries or [entry for entry in published.values() if entry.fingerprint == fingerprint][:1]
    if not some:
        raise Unservable("no partition of this definition is published")
    columns = some[0].columns
    if any(entry.columns is not columns and entry.columns != columns for entry in entries):
        raise Unservable("its partitions have columns of different types: materialize them all again")
    return _Asset(manifest, entries, columns, some[0].as_of)


def _within(pieces: Iterable[pa.Table], room: int = FINISH_BYTES) -> list[pa.Table]:
    """The pieces, which together may take `room` bytes."""
    kept, size = [], 0
    for rows in pieces:
        kept.append(rows)
        size += rows.nbytes
        if size > room:
            raise Unservable(f"more than {FINISH_BYTES} bytes of rows would have to be put together")
    return kept


def _result_columns(asset: _Asset, plan: Plan) -> tuple[Column, ...]:
    """The columns that callers see: all but the plan's hidden ones, which come last."""
    if plan.parts and asset.columns[:1] and asset.columns[0].name == PART:
        return ()
    columns, width = asset.columns, len(asset.columns) - len(plan.hidden)
    if tuple(column.name.partition(" ")[0] for column in columns[max(0, width) :]) != plan.hidden:
        raise Corrupt(f"snapshot {asset.manifest.number}", "was made by another plan")
    return columns[:width]


def _part(number: int) -> Sought:
    return Sought(PART, number, pa.uint8(), ordered=True)


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
        part = rows if not skip and rows.num_rows <= take else rows.slice(skip, take)
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
        key = None if value is None else sought_key(type_, variable, value)
        if key is None:
            return None
        ordered = type_.base.name in ARROW_ORDER
        found.append(Sought(dimension.column, key, storage_type(type_), ordered))
    return tuple(found)
