"""The tables of embedded ClickHouse: what lies in a folder. Runs in its workers, on the standard library.

`DIR/T.parquet`, `DIR/T.csv`, `DIR/T/*.parquet` and `DIR/T/*.csv` are table T. Types are what ClickHouse
infers, with one difference: a column is Nullable only if some row holds a NULL, or some file lacks it.
Parquet writers mark every column optional and CSV says nothing: inference alone makes all of them Nullable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Query = Callable[[str], list[list[Any]]]

# A Parquet file's least and greatest values leave NaN out, and ClickHouse 26.9 trusts them: of a row group
# that holds 0.0 and NaN it reads nothing for `f != 0`.
_UNPRUNED = (
    " SETTINGS input_format_parquet_filter_push_down = 0, input_format_parquet_page_filter_push_down = 0"
)

FORMATS = {"parquet": "Parquet", "csv": "CSVWithNames"}
# ClickHouse reads these as patterns in a path and has no way to escape them.
PATTERN_CHARACTERS = frozenset("*?{},")
_WHOLE = 2**63 - 1


class Unreadable(Exception):
    """A table's files cannot be one table. The message names file and fix."""


@dataclass(frozen=True)
class Source:
    """The files of a table: `(path, size, mtime in ns)` each, sorted by path; all in one format."""

    format: str
    files: tuple[tuple[str, int, int], ...]

    @property
    def path(self) -> str:
        """The files as ClickHouse's `file()` and ENGINE=File take them: these, whatever is added later."""
        paths = [file[0] for file in self.files]
        if len(paths) == 1:
            return paths[0]
        folder = str(Path(paths[0]).parent)
        return f"{folder}/{{{','.join(Path(path).name for path in paths)}}}"


class Tables:
    """ClickHouse's tables, kept equal to the folder's by `refresh`."""

    def __init__(self, folder: Path, query: Query) -> None:
        self._folder, self._query = folder, query
        self._made: dict[str, Source] = {}
        self._nullable: dict[tuple[str, int, int], dict[str, bool]] = {}
        self.broken: dict[str, str] = {}

    def refresh(self) -> None:
        """Make, replace and drop tables where files came, changed or went. Costs one scan of the folder."""
        found, self.broken = scan(self._folder)
        for name in self._made.keys() - found.keys():
            self._query(f"DROP TABLE {quoted(name)}")
            del self._made[name]
        for name, source in found.items():
            if self._made.get(name) != source:
                self._make(name, source)
        present = {file for source in found.values() for file in source.files}
        self._nullable = {file: known for file, known in self._nullable.items() if file in present}

    def _make(self, name: str, source: Source) -> None:
        try:
            structure = self._structure(source)
        except Exception as error:  # a broken file must not take the other tables down
            self._query(f"DROP TABLE IF EXISTS {quoted(name)}")
            self._made.pop(name, None)
            self.broken[name] = str(error)
            return
        columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in structure)
        engine = f"File({source.format}, {literal(source.path)})"
        settings = _UNPRUNED if any("Float" in kind for _, kind in structure) else ""
        self._query(f"CREATE OR REPLACE TABLE {quoted(name)} ({columns}) ENGINE = {engine}{settings}")
        self._made[name] = source

    def _structure(self, source: Source) -> list[tuple[str, str]]:
        return self._parquet(source) if source.format == "Parquet" else self._csv(source)

    def _parquet(self, source: Source) -> list[tuple[str, str]]:
        """Columns of all files together; nulls counted from the files' statistics, without reading rows."""
        table = f"file({literal(source.path)}, Parquet)"
        columns = self._query(f"DESCRIBE TABLE {table} SETTINGS schema_inference_mode = 'union'")
        new = tuple(file for file in source.files if file not in self._nullable)
        if new:
            self._nullable.update(self._nulls(Source(source.format, new)))
        known = [self._nullable[file] for file in source.files]
        return [
            (name, kind if any(nulls.get(name, True) for nulls in known) else plain(kind))
            for name, kind, *_ in columns
        ]

    def _nulls(self, source: Source) -> dict[tuple[str, int, int], dict[str, bool]]:
        """Per file and column: does it hold NULLs? Yes where statistics do not say."""
        rows = self._query(
            "SELECT _path, arrayMap(c -> tuple(c.path, toString(toUInt8(arrayExists(g -> arrayExists(s -> "  # noqa: S608
            "s.path = c.path AND ifNull(s.statistics.null_count, 1) > 0, g.columns), row_groups)))), columns)"
            f" FROM file({literal(source.path)}, ParquetMetadata)"
        )
        by_path = {path: {name: flag == "1" for name, flag in columns} for path, columns in rows}
        return {file: by_path.get(file[0], {}) for file in source.files}

    def _csv(self, source: Source) -> list[tuple[str, str]]:
        """Types from the first rows, or from all if a later one contradicts them. Empty fields are NULL."""
        table = f"file({literal(source.path)}, CSVWithNames)"
        try:
            return self._without_nulls(table, self._query(f"DESCRIBE TABLE {table}"))
        except Exception:
            whole = (
                f"SETTINGS input_format_max_rows_to_read_for_schema_inference = {_WHOLE}, "
                f"input_format_max_bytes_to_read_for_schema_inference = {_WHOLE}, "
                "schema_inference_mode = 'union'"
            )
            return self._without_nulls(table, self._query(f"DESCRIBE TABLE {table} {whole}"))

    def _without_nulls(self, table: str, columns: list[list[Any]]) -> list[tuple[str, str]]:
        structure = ", ".join(f"{quoted(name)} {kind}" for name, kind, *_ in columns)
        typed = f"{table[:-1]}, {literal(structure)})"
        flags = ", ".join(f"toString(max(isNull({quoted(name)})))" for name, *_ in columns)
        [counts] = self._query(f"SELECT {flags} FROM {typed}")  # noqa: S608  (quoted)
        return [
            (name, kind if flag == "1" else plain(kind))
            for (name, kind, *_), flag in zip(columns, counts, strict=True)
        ]


def scan(folder: Path) -> tuple[dict[str, Source], dict[str, str]]:
    """The tables in a folder, and why others cannot be. Hidden files and other endings are no tables."""
    found: dict[str, list[Source]] = {}
    for entry in _visible(folder):
        stem, _, ending = entry.name.rpartition(".")
        if ending in FORMATS and entry.is_file():
            found.setdefault(stem, []).append(Source(FORMATS[ending], (_stat(entry),)))
        elif entry.is_dir():
            found.setdefault(entry.name, []).extend(_inside(entry.path))
    tables, broken = {}, {}
    for name, sources in found.items():
        try:
            if sources:
                tables[name] = _one(sources)
        except Unreadable as error:
            broken[name] = str(error)
    return tables, broken


def _visible(folder: Path | str) -> list[os.DirEntry[str]]:
    # scandir, not Path: this runs before every query, over thousands of files
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)


def _inside(folder: str) -> Iterable[Source]:
    entries = _visible(folder)
    for ending, kind in FORMATS.items():
        if files := tuple(_stat(entry) for entry in entries if entry.name.endswith(f".{ending}")):
            yield Source(kind, files)


def _one(sources: list[Source]) -> Source:
    if len(sources) > 1:
        raise Unreadable(
            f"it is in {sources[0].files[0][0]} and in {sources[1].files[0][0]}: keep one of them"
        )
    odd = next((path for path, *_ in sources[0].files if not PATTERN_CHARACTERS.isdisjoint(path)), None)
    if odd is not None:
        raise Unreadable(f"{odd} has one of the characters {' '.join('*?{},')} in its path: rename it")
    return sources[0]


def _stat(entry: os.DirEntry[str]) -> tuple[str, int, int]:
    status = entry.stat()
    return entry.path, status.st_size, status.st_mtime_ns


def plain(kind: str) -> str:
    """`Nullable(T)` as `T`."""
    return kind[len("Nullable(") : -1] if kind.startswith("Nullable(") else kind


def quoted(name: str) -> str:
    """An identifier, whatever characters it has."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def read_rows(text: str) -> list[list[Any]]:
    """Rows of FORMAT JSONCompactEachRow."""
    return [json.loads(line) for line in text.splitlines()]
