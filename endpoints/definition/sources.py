"""`sources.yaml` beside the endpoints: what people know of the tables that endpoints read.

A table's timestamp column tells how new its newest row is, so that a fresh asset over dead data is seen. Each
table is an entry of its own: one that is wrong is left out, with a Problem, and takes nothing else down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import Field

from endpoints.definition.document import Document, read_document
from endpoints.definition.explain import read_model
from endpoints.definition.schema import Duration, Mapped, document_schema
from endpoints.errors import Problem
from endpoints.query.tables import Table
from endpoints.types.grammar import identifier

SOURCES_NAME: Final = "sources.yaml"
SOURCES_SCHEMA_ID: Final = "sources.schema.json"
_TABLE = re.compile(r"[^.\s`\"'()]+(\.[^.\s`\"'()]+)?")


@dataclass(frozen=True, slots=True)
class Source:
    """What is declared of one table.

    `timestamp`: the column whose greatest value is the newest row's time. `freshness`: how old that row may
    be. `line` is the table's in sources.yaml.
    """

    table: Table
    timestamp: str | None = None
    freshness: timedelta | None = None
    owner: str | None = None
    description: str | None = None
    line: int = 1

    @property
    def newest_sql(self) -> str:
        """The question for the newest row: `newest` and `rows`, of a table that has a timestamp."""
        assert self.timestamp is not None
        table = ".".join(identifier(part) for part in (self.table.database, self.table.name) if part)
        return f"SELECT max({identifier(self.timestamp)}) AS newest, count() AS rows FROM {table}"  # noqa: S608  (quoted)


@dataclass(frozen=True, slots=True)
class Sources:
    """Every table that is declared, by its name as queries write it, and what is wrong with the file."""

    tables: Mapping[str, Source] = field(default_factory=lambda: MappingProxyType({}))
    problems: tuple[Problem, ...] = ()

    def of(self, tables: Iterable[Table]) -> tuple[Source, ...]:
        """What is declared of these, in their order."""
        return tuple(self.tables[str(table)] for table in tables if str(table) in self.tables)


class SourceYaml(Mapped):
    """One table: all of it is optional."""

    timestamp: str | None = Field(
        None, min_length=1, description="The Date or DateTime column that tells when a row came."
    )
    freshness: Duration | None = Field(
        None, description="How old the newest row may be; older, the table counts as dead."
    )
    owner: str | None = Field(None, description="Whom to ask about the table.")
    description: str | None = Field(None, description="What is in it.")


class SourcesYaml(Mapped):
    """sources.yaml: the tables that endpoints read."""

    tables: dict[str, SourceYaml] = Field(
        {}, description="By name, as queries write it: `events`, `shop.orders`."
    )


def sources_schema() -> dict[str, Any]:
    """The JSON Schema of sources.yaml: `# yaml-language-server: $schema=sources.schema.json`."""
    return document_schema(SourcesYaml, SOURCES_SCHEMA_ID)


def read_sources(folder: Path, shown: str) -> Sources:
    """What `folder/sources.yaml` declares; nothing where there is no such file."""
    path = folder / SOURCES_NAME
    if not path.is_file():
        return Sources()
    document = read_document(path, f"{shown}/{SOURCES_NAME}")
    model = read_model(document, SourcesYaml) if document.data is not None else None
    declared = model.tables if model else {}
    found = {name: _source(name, told, document) for name, told in declared.items()}
    return Sources(
        {str(source.table): source for source in found.values() if source is not None},
        tuple(document.problems),
    )


def _source(name: str, told: SourceYaml, document: Document) -> Source | None:
    at = ("tables", name)
    if not _TABLE.fullmatch(name):
        fix = "Write it as queries do, without quotes: events, or shop.orders."
        document.report(at, "bad_table", f"{name!r} is not the name of a table.", fix)
        return None
    if told.freshness is not None and told.timestamp is None:
        message = f"{name} has a freshness, but no timestamp to tell it by."
        document.report((*at, "freshness"), "no_timestamp", message, "Add `timestamp: COLUMN`.")
        return None
    database, _, table = name.rpartition(".")
    line = document.line(at)
    return Source(Table(database, table), told.timestamp, told.freshness, told.owner, told.description, line)
