"""Column lineage of a version as Dagster shows it, asked of the warehouse once per run.

The text says which columns are used; DESCRIBE of each table says which columns there are; `system.tables`
says what views are made of, so that lineage ends at tables. Nothing of it may fail a run.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import dagster as dg

from endpoints.definition import Version
from endpoints.errors import UnsupportedType, WarehouseError
from endpoints.query.lexer import significant, tokenize
from endpoints.query.lineage import column_lineage
from endpoints.query.structure import top_level
from endpoints.query.tables import Table, tables
from endpoints.types import Column
from endpoints.types.grammar import identifier
from endpoints.warehouse.protocol import Caps, Statement, Warehouse
from orchestration.sources import table_key

_CAPS: Final = Caps(timeout=timedelta(seconds=10))
_QUERY_STARTS: Final = frozenset({"SELECT", "WITH"})

log = logging.getLogger(__name__)


def lineage_metadata(version: Version, columns: Sequence[Column], warehouse: Warehouse) -> dict[str, Any]:
    """`dagster/column_lineage` of the answer's columns, and what views are made of; nothing where unknown."""
    server = _Server(warehouse)
    found = column_lineage(version.sql, [c.name for c in columns], server.columns_of, server.view_of)
    deps = {
        column: [
            dg.TableColumnDep(table_key(table), name)
            for table, name in sorted(upstream, key=lambda one: (str(one[0]), one[1]))
        ]
        for column, upstream in found.items()
        if upstream
    }
    metadata: dict[str, Any] = {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}
    if server.views:
        metadata["views"] = dg.MetadataValue.json(server.views)
    return metadata


class _Server:
    """What the warehouse knows of tables; each is asked of once."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._columns: dict[Table, tuple[str, ...] | None] = {}
        self._views: dict[Table, str | None] = {}
        self._database: str | None = None
        self.views: dict[str, list[str]] = {}

    def columns_of(self, table: Table) -> tuple[str, ...] | None:
        """The table's columns, as `*` gives them; None where the server does not say."""
        if table not in self._columns:
            sql = f"SELECT * FROM {_quoted(table)}"  # noqa: S608  (quoted)
            try:
                described = self._warehouse.describe(Statement(sql))
                self._columns[table] = tuple(column.name for column in described)
            except (WarehouseError, UnsupportedType) as error:
                log.debug("no columns of %s: %s", table, error)
                self._columns[table] = None
        return self._columns[table]

    def view_of(self, table: Table) -> str | None:
        """The query of a view, its tables named as those of the current database are; None of a table."""
        if table not in self._views:
            self._views[table] = self._asked(table)
            if (query := self._views[table]) is not None:
                self.views[str(table)] = [str(read) for read in tables(query)]
        return self._views[table]

    def _asked(self, table: Table) -> str | None:
        database = _literal(table.database) if table.database else "currentDatabase()"
        sql = (
            "SELECT engine, create_table_query, currentDatabase() AS here FROM system.tables "  # noqa: S608
            f"WHERE database = {database} AND name = {_literal(table.name)}"
        )
        try:
            with self._warehouse.run(Statement(sql), _CAPS) as result:
                rows = [row for batch in result for row in batch.to_pylist()]
        except (WarehouseError, UnsupportedType) as error:
            log.debug("nothing of %s in system.tables: %s", table, error)
            return None
        if len(rows) != 1 or not _text(rows[0]["engine"]).endswith("View"):
            return None
        return view_query(_text(rows[0]["create_table_query"]), _text(rows[0]["here"]))


def view_query(create: str, database: str) -> str | None:
    """The SELECT of a `CREATE VIEW … AS SELECT …`, without the name of the current database before tables."""
    tokens = significant(tokenize(create))
    for index, token in top_level(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if (
            token.word == "AS"
            and following is not None
            and (following.word in _QUERY_STARTS or following.text == "(")
        ):
            query = tokens[index + 1 :]
            kept = [
                t
                for i, t in enumerate(query)
                if not (
                    _is_database(query, i, database)
                    or (t.text == "." and i and _is_database(query, i - 1, database))
                )
            ]
            return " ".join(t.text for t in kept)
    return None


def _is_database(tokens: Sequence[Any], index: int, database: str) -> bool:
    """Whether the name at `index` is the current database's, before a table's."""
    is_name = tokens[index].name == database and index + 2 < len(tokens) and tokens[index + 1].text == "."
    return is_name and (index == 0 or tokens[index - 1].text != ".")


def _quoted(table: Table) -> str:
    return ".".join(identifier(part) for part in (table.database, table.name) if part)


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
