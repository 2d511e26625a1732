"""Which tables a query reads, by its tokens: for lineage, never for access decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from endpoints.query.lexer import Token, significant, tokenize
from endpoints.query.structure import closing

_OPENS_QUERY: Final = {"SELECT", "WITH", "FROM"}
_ENDS_FROM: Final = {
    *("SELECT", "WHERE", "PREWHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "OFFSET"),
    *("UNION", "EXCEPT", "INTERSECT", "SETTINGS", "FORMAT", "USING"),
}


_MULTIPLY: Final = {"JOIN", "UNION", "FILL", "ROLLUP", "CUBE", "GROUPING", "TOTALS"}
"""Words by which a result can have more rows than the tables it reads; `arrayJoin` and `unnest` as well."""


_AFTER_TABLE: Final = _ENDS_FROM | {
    *("FINAL", "SAMPLE", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "OUTER", "ANY", "ALL", "ASOF"),
    *("SEMI", "ANTI", "GLOBAL", "PASTE", "ARRAY", "ON", "FETCH", "INTO", "STREAM"),
}
"""What stands behind a table and is no alias of it."""
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the query names it; `database` is empty where it names none."""

    database: str
    name: str

    def __str__(self) -> str:
        return f"{self.database}.{self.name}" if self.database else self.name


@dataclass(frozen=True, slots=True)
class Read:
    """One place at which a table is read: `sql[start:end]` is its name, with its alias if it has one.

    `following` is the word behind, such as FINAL. `in_from` is False for the table of `x IN table`.
    """

    table: Table
    alias: str
    start: int
    end: int
    line: int
    following: str
    in_from: bool

    def is_called(self, name: str) -> bool:
        """Whether `name` means this read: its alias, its table, with or without the database."""
        return name in (self.alias or self.table.name, self.table.name, str(self.table))


@dataclass(slots=True)
class _Brackets:
    """One level of brackets: whether a query is in them, and whether this is its FROM (commas join)."""

    query: bool
    in_from: bool = False


def tables(sql: str) -> tuple[Table, ...]:
    """The tables that a query reads, sorted; neither functions nor what its own WITH defines."""
    tokens = significant(tokenize(sql))
    return tuple(sorted({table for _, table in _tables_at(tokens)}, key=str))


def reads(sql: str) -> tuple[Read, ...]:
    """Every place at which a query reads a table, in the order of its text."""
    tokens = significant(tokenize(sql))
    return tuple(_read(tokens, index, table) for index, table in _tables_at(tokens))


def _tables_at(tokens: Sequence[Token]) -> Iterator[tuple[int, Table]]:
    """The places at which tables are read, in the order of the text."""
    own = tuple(_with_names(tokens))
    for index in sorted(set(_places(tokens))):
        table = _table_at(tokens, index)
        if table is not None and not (table.database == "" and any(o.hides(table.name, index) for o in own)):
            yield index, table


def _read(tokens: Sequence[Token], index: int, table: Table) -> Read:
    first, last = tokens[index], index
    while last + 2 < len(tokens) and tokens[last + 1].text == "." and tokens[last + 2].name:
        last += 2
    alias = ""
    if _word(tokens, last + 1) == "AS":
        last, alias = last + 2, tokens[last + 2].name
    elif last + 1 < len(tokens) and tokens[last + 1].name and _word(tokens, last + 1) not in _AFTER_TABLE:
        last, alias = last + 1, tokens[last + 1].name
    in_from = tokens[index - 1].word != "IN"
    return Read(table, alias, first.start, tokens[last].end, first.line, _word(tokens, last + 1), in_from)


def table_functions(sql: str) -> tuple[str, ...]:
    """The functions that a query reads as tables, in lower case, sorted: `numbers`, `file`."""
    tokens = significant(tokenize(sql))
    found = (i for i in _places(tokens) if i + 1 < len(tokens) and tokens[i + 1].text == "(")
    return tuple(
        sorted({tokens[i].name.lower() for i in found if tokens[i].name and tokens[i - 1].word != "IN"})
    )


def table_spans(tokens: Sequence[Token]) -> tuple[Span, ...]:
    """Where tables are named, as (first, last) indexes of tokens; those that WITH makes are among them."""
    found = []
    for index in _places(tokens):
        table = _table_at(tokens, index)
        if table is not None:
            parts = str(table).count(".") + 1
            found.append((index, index + 2 * parts - 1))
    return tuple(found)


def bounding_tables(sql: str) -> tuple[Table, ...]:
    """The tables that together have at least the result's rows (or 1); none where it may have more."""
    tokens = significant(tokenize(sql))
    functions = ("arrayjoin", "unnest")
    if any(token.word in _MULTIPLY or (token.name or "").lower() in functions for token in tokens):
        return ()
    found = tables(sql)
    endless = any(table.database.lower() == "system" for table in found)  # system.numbers
    return () if endless or not all(_is_plain(tokens, index) for index in _places(tokens)) else found


def _is_plain(tokens: Sequence[Token], index: int) -> bool:
    """Whether rows come from a table or a subquery alone: no cross product, no table function."""
    if tokens[index - 1].text == ",":
        return False
    if tokens[index - 1].word != "FROM" or _table_at(tokens, index) is not None:
        return True
    return index < len(tokens) and tokens[index].text == "(" and _word(tokens, index + 1) in _OPENS_QUERY


def _places(tokens: Sequence[Token]) -> list[int]:
    """Indexes at which a table, a table function or a subquery is to come."""
    places: list[int] = []
    levels = [_Brackets(query=True)]
    for index, token in enumerate(tokens):
        level = levels[-1]
        before = tokens[index - 1] if index else None
        if token.text in ("(", "["):
            levels.append(_Brackets(query=_word(tokens, index + 1) in _OPENS_QUERY))
        elif token.text in (")", "]"):
            if len(levels) > 1:
                levels.pop()
        elif token.text == "," and level.in_from:
            places.append(index + 1)
        elif before is not None and before.text == ".":
            continue  # t.from is a column
        elif token.word == "FROM" and level.query and not _is_distinct_from(tokens, index):
            level.in_from = True
            places.append(index + 1)
        elif token.word == "JOIN":
            level.in_from = before is None or before.word != "ARRAY"  # ARRAY JOIN takes columns
            places += [index + 1] if level.in_from else []
        elif token.word == "IN":
            places.append(index + 1)  # `x IN t` reads a table; `x IN (…)` does not begin with a name
        elif token.word in _ENDS_FROM:
            level.in_from = False
    return places


def _table_at(tokens: Sequence[Token], index: int) -> Table | None:
    """The table named at `index`; None for a subquery, a table function, a value or a placeholder."""
    names: list[str] = []
    while index < len(tokens) and tokens[index].name:
        names.append(tokens[index].name)
        index += 1
        if index >= len(tokens) or tokens[index].text != ".":
            break
        index += 1
    if not names or (index < len(tokens) and tokens[index].text == "("):
        return None
    return Table(".".join(names[:-1]), names[-1])


@dataclass(frozen=True, slots=True)
class _Own:
    """A name that WITH gives to a subquery: from `first` up to `last` it hides a table so called, but within
    the subquery itself, `body`, unless that is recursive.
    """

    name: str
    first: int
    last: int
    body: range

    def hides(self, name: str, index: int) -> bool:
        return name == self.name and self.first <= index < self.last and index not in self.body


def _with_names(tokens: Sequence[Token]) -> Iterator[_Own]:
    """The names that WITH gives to subqueries, `name AS (SELECT`, each with where it holds: in the SELECT of
    that WITH and in all that is in its brackets, the WITH's other subqueries included.
    """
    levels = [(0, len(tokens))]  # where the WITH of each level of brackets stands, and where the level ends
    for index, token in enumerate(tokens):
        if token.text in ("(", "["):
            levels.append((index, closing(tokens, index)))
        elif token.text in (")", "]"):
            levels = levels[:-1] or levels
        elif token.word == "WITH":
            levels[-1] = (index, levels[-1][1])
        elif token.name and _word(tokens, index + 1) == "AS" and _opens_query(tokens, index + 2):
            first, last = levels[-1]
            recursive = _word(tokens, first + 1) == "RECURSIVE"
            body = range(0) if recursive else range(index + 2, closing(tokens, index + 2))
            yield _Own(token.name, first, last, body)


def _opens_query(tokens: Sequence[Token], index: int) -> bool:
    return (
        index + 1 < len(tokens)
        and tokens[index].text == "("
        and _word(tokens, index + 1) in (*_OPENS_QUERY, "")
    )


def _is_distinct_from(tokens: Sequence[Token], index: int) -> bool:
    """Whether this FROM is that of `IS [NOT] DISTINCT FROM`."""
    return _word(tokens, index - 1) == "DISTINCT" and _word(tokens, index - 2) in ("IS", "NOT")


def _word(tokens: Sequence[Token], index: int) -> str:
    return tokens[index].word if 0 <= index < len(tokens) else ""
