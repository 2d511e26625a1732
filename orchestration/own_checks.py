"""`checks:` of a version, run before its rows are published: queries that must give no rows.

Those over the warehouse run before the version's own query; those over `asset` in embedded ClickHouse, over
the Parquet files just written, with the types that the warehouse gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.definition import Check, Version
from endpoints.definition.checks import ASSET
from endpoints.errors import CheckBreach, EndpointsError, FoundRows, WarehouseError
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import CheckResult, PartitionEntry, Server
from endpoints.query.lexer import significant, tokenize
from endpoints.query.plan import Plan, Refused, make_plan, plan_at
from endpoints.query.plan.model import HIDDEN
from endpoints.query.widest import widest
from endpoints.scratch import Scratch
from endpoints.types import Column, json_values, storage_schema, structure
from endpoints.types.grammar import identifier
from endpoints.warehouse.embedded import EmbeddedWarehouse, RowsFile
from endpoints.warehouse.finish import ROWS_TABLE
from endpoints.warehouse.protocol import Caps, Result, Statement, Warehouse
from endpoints.warehouse.text import without_semicolon

PREFIX: Final = "check:"
"""What the names of these checks begin with in a manifest."""
_CAPS: Final = Caps(timeout=timedelta(minutes=10))
_COUNTED: Final = 1000
_EXAMPLES: Final = 3
_EXAMPLE_CHARACTERS: Final = 200


class NotCheckable(EndpointsError):
    """There are checks over `asset`, but no query gives whole answers to check."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows about to be published, as Parquet `files`, with the types of `columns`.

    `variables`: hidden column → the variable that it is compared with by `=`. `timezone` is the warehouse's.
    """

    files: Sequence[Path]
    columns: tuple[Column, ...]
    variables: Mapping[str, str]
    timezone: str


def check_warehouse(version: Version, warehouse: Warehouse) -> tuple[CheckResult, ...]:
    """Run the checks over the warehouse. CheckBreach, or the WarehouseError of one that cannot be run."""
    own = [check for check in version.checks if not check.over_asset]
    return _run(own, lambda sql: warehouse.run(Statement(sql), _CAPS)) if own else ()


def check_rows(
    version: Version,
    plan: Plan,
    entry: PartitionEntry,
    server: Server,
    warehouse: Warehouse,
    files: FileCache,
) -> tuple[CheckResult, ...]:
    """Run the checks over `asset`: the rows of an entry that is not published yet.

    CheckBreach, or the WarehouseError of one that cannot be run; NotCheckable.
    """
    own = [check for check in version.checks if check.over_asset]
    if not own:
        return ()
    with closing(Scratch("checks")) as scratch:
        if plan.finish_sql is None:
            paths = [files.local(version.endpoint, version.number, file) for file in entry.files]
            rows = _Rows(paths, entry.columns, seek_variables(plan), server.timezone)
        else:
            rows = _answers(version, plan, entry.as_of, warehouse, scratch.path / "answers.parquet")
        # By their suffix they are no tables of the folder; their types are those given here.
        for number, file in enumerate(rows.files):
            (scratch.path / f"{number}.rows").symlink_to(file.resolve())
        given = RowsFile(ROWS_TABLE, structure(rows.columns), scratch.path / "*.rows", rows.timezone)
        with closing(EmbeddedWarehouse(scratch.path, workers=1)) as embedded:
            return _run(own, lambda sql: embedded.run(Statement(_over(sql, rows)), _CAPS, rows=[given]))


def seek_variables(plan: Plan) -> dict[str, str]:
    """The seek dimensions: hidden column → variable."""
    return {d.column: d.variable for d in plan.seek if d.variable is not None}


def _answers(version: Version, plan: Plan, moment: datetime, warehouse: Warehouse, file: Path) -> _Rows:
    """Whole answers where what is stored are parts: the widest for each set of seek values."""
    answers = make_plan(widest(version, seek_variables(plan).values()))
    if isinstance(answers, Refused) or answers.finish_sql is not None:
        raise NotCheckable(
            f"{version.key} makes its answers when they are read, and no query gives all of them: its checks "
            "over `asset` cannot be run. Let them read the warehouse, or remove them."
        )
    answers = plan_at(answers, version.clock, moment)
    with warehouse.run(Statement(answers.materialize_sql), Caps()) as result:
        schema = storage_schema(result.columns)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in result:
                writer.write_batch(batch)
        return _Rows([file], result.columns, seek_variables(answers), result.timezone)


def _over(sql: str, rows: _Rows) -> str:
    """The check's text with `asset` defined in front of it: the answer's columns, and the variables'."""
    names = [column.name for column in rows.columns if not column.name.startswith(HIDDEN)]
    items = [identifier(name) for name in names]
    items += [
        f"{identifier(column)} AS {identifier(variable)}"
        for column, variable in rows.variables.items()
        if variable not in names
    ]
    asset = f"{ASSET} AS (SELECT {', '.join(items)} FROM {ROWS_TABLE})"  # noqa: S608  (quoted)
    text = without_semicolon(sql)
    first, *rest = significant(tokenize(text))
    if first.word == "SELECT":
        return f"WITH {asset} {text}"
    if first.word == "WITH" and rest[0].word != "RECURSIVE":
        return f"WITH {asset}, {text[first.end :]}"
    return f"WITH {asset} SELECT * FROM (\n{text}\n)"  # noqa: S608  (the definition's own text)


def _run(checks: Sequence[Check], run: Callable[[str], Result]) -> tuple[CheckResult, ...]:
    results, broken = [], []
    for check in checks:
        try:
            found = _rows_of(check, run)
        except WarehouseError as error:
            if check.severity == "error":
                said = f"The check {check.name} could not be run: {error}"
                raise type(error)(said, error.clickhouse_code) from error
            results.append(CheckResult(f"{PREFIX}{check.name}", False, f"could not be run: {error}"))
            continue
        results.append(CheckResult(f"{PREFIX}{check.name}", found is None, str(found or "no rows")))
        broken += [found] if found and check.severity == "error" else []
    if broken:
        raise CheckBreach(broken)
    return tuple(results)


def _rows_of(check: Check, run: Callable[[str], Result]) -> FoundRows | None:
    """What the check found; None where that is nothing. Stops reading when it is enough."""
    batches: list[pa.RecordBatch] = []
    with run(check.sql) as result:
        columns, timezone, count = result.columns, result.timezone, 0
        for batch in result:
            batches += [batch.slice(0, _EXAMPLES)] if count < _EXAMPLES else []
            count += batch.num_rows
            if count >= _COUNTED:
                break
    if not count:
        return None
    table = pa.Table.from_batches(batches, storage_schema(columns)).slice(0, _EXAMPLES).combine_chunks()
    values = [
        json_values(array.combine_chunks(), column.type, timezone=timezone)
        for column, array in zip(columns, table.columns, strict=True)
    ]
    shown = [
        ", ".join(f"{column.name}={value}" for column, value in zip(columns, row, strict=True))
        for row in zip(*values, strict=True)
    ]
    told = f"{_COUNTED:,} rows or more" if count >= _COUNTED else f"{count} row{'' if count == 1 else 's'}"
    return FoundRows(check.name, told, "; ".join(shown)[:_EXAMPLE_CHARACTERS])
