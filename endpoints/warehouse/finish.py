"""The finish: ClickHouse's own semantics over rows in hand, in the worker processes of embedded ClickHouse.

What a plan leaves to read time (conditions in the user's words, merging of states, the query's text above the
cut) runs here, over the rows of an asset that the request selects, with the types that the asset recorded.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.scratch import Scratch
from endpoints.types import Column, storage_schema, structure
from endpoints.warehouse.embedded import EmbeddedWarehouse, RowsFile
from endpoints.warehouse.protocol import Caps, Statement

ROWS_TABLE = "__rows"
Tables = Mapping[str, tuple[Sequence[Column], pa.Table]]
"""Rows in hand by the name of their table: the columns, and rows in storage form in the same order."""


class Finisher:
    """Runs statements over tables of rows in hand. Starts its workers when first used; close it."""

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._scratch: Scratch | None = None
        self._warehouse: EmbeddedWarehouse | None = None

    def run(
        self, statement: Statement, columns: Sequence[Column], rows: pa.Table, *, timezone: str, caps: Caps
    ) -> tuple[tuple[Column, ...], pa.Table]:
        """The statement's columns and rows, over the rows of one table, `__rows`."""
        return self.run_over(statement, {ROWS_TABLE: (columns, rows)}, timezone=timezone, caps=caps)

    def run_over(
        self, statement: Statement, tables: Tables, *, timezone: str, caps: Caps
    ) -> tuple[tuple[Column, ...], pa.Table]:
        """The statement's columns and rows, over several tables of rows in hand."""
        # In the folder of tables, which is all that a worker may read; by its suffix it is no table of it.
        folder, warehouse = self._started()
        with ExitStack() as files:
            given = []
            for name, (columns, rows) in tables.items():
                file = files.enter_context(tempfile.NamedTemporaryFile(dir=folder, suffix=".rows"))
                # All rows are read, and least and greatest values would be wrong beside NaN (`tables`).
                pq.write_table(
                    rows, file.name, compression="none", use_dictionary=False, write_statistics=False
                )
                given.append(RowsFile(name, structure(columns), Path(file.name), timezone))
            with warehouse.run(statement, caps, rows=given) as result:
                batches = list(result)
            return result.columns, pa.Table.from_batches(batches, storage_schema(result.columns))

    def close(self) -> None:
        """End the workers. May be called twice."""
        with self._lock:
            scratch, warehouse = self._scratch, self._warehouse
            self._scratch = self._warehouse = None
        if warehouse is not None and scratch is not None:
            warehouse.close()
            scratch.close()

    def _started(self) -> tuple[Path, EmbeddedWarehouse]:
        with self._lock:
            if self._scratch is None or self._warehouse is None:
                self._scratch = Scratch("finish")
                self._warehouse = EmbeddedWarehouse(self._scratch.path, self._workers)
            return self._scratch.path, self._warehouse
