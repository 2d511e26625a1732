"""The clauses of one SELECT, found by tokens. Nothing is resolved and nothing re-rendered: all are spans of
the text.

What does not read as one plain SELECT raises `Unreadable`; a wrong reading cannot go unnoticed, because
clauses must come in ClickHouse's order and every plan's DESCRIBE is compared with the query's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from endpoints.query import structure
from endpoints.query.lexer import Kind, Token, significant, tokenize
from endpoints.query.structure import parse, strip_semicolons
from endpoints.query.tables import table_functions, tables

_OPEN, _CLOSE = {"(": ")", "[": "]", "{": "}"}, frozenset(")]}")

# Words that stand between operands: none of them names a column unless it is quoted.
KEYWORDS = frozenset(
    [
        "ALL",
        "AND",
        "ANY",
        "ARRAY",
        "AS",
        "ASC",
        "ASOF",
        "BETWEEN",
        "BY",
        "CASE",
        "CROSS",
        "CUBE",
        "DESC",
        "DISTINCT",
        "DIV",
        "ELSE",
        "END",
        "EXCEPT",
        "FALSE",
        "FETCH",
        "FILL",
        "FINAL",
        "FIRST",
        "FROM",
        "FULL",
        "GLOBAL",
        "GROUP",
        "GROUPING",
        "HAVING",
        "ILIKE",
        "IN",
        "INNER",
        "INTERSECT",
        "INTERVAL",
        "IS",
        "JOIN",
        "LAST",
        "LEFT",
        "LIKE",
        "LIMIT",
        "MOD",
        "NOT",
        "NULL",
        "NULLS",
        "OFFSET",
        "ON",
        "OR",
        "ORDER",
        "OUTER",
        "OVER",
        "PREWHERE",
        "QUALIFY",
        "REGEXP",
        "RIGHT",
        "ROLLUP",
        "SAMPLE",
        "SELECT",
        "SETS",
        "SETTINGS",
        "THEN",
        "TIES",
        "TOTALS",
        "TRUE",
        "UNION",
        "USING",
        "WHEN",
        "WHERE",
        "WINDOW",
        "WITH",
        "XOR",
        "INF",
        "NAN",
    ]
)
UNITS = frozenset(
    [
        "NANOSECOND",
        "MICROSECOND",
        "MILLISECOND",
        "SECOND",
        "MINUTE",
        "HOUR",
        "DAY",
        "WEEK",
        "MONTH",
        "QUARTER",
        "YEAR",
        "NANOSECONDS",
        "MICROSECONDS",
        "MILLISECONDS",
        "SECONDS",
        "MINUTES",
        "HOURS",
        "DAYS",
        "WEEKS",
        "MONTHS",
        "QUARTERS",
        "YEARS",
    ]
)


_MAKES_ROWS = frozenset({"numbers", "numbers_mt", "zeros", "values", "generateseries", "generate_series"})

# What may follow an expression of ORDER BY.
ORDER_WORDS = ("ALL", "ASC", "ASCENDING", "DESC", "DESCENDING", "NULLS", "COLLATE", "WITH")


_ASSET = re.compile(r"__(asset|stored)\d*")


class Unreadable(Exception):
    """The text is not one SELECT that the planner can take apart; `code` and `line` say what and where."""

    def __init__(self, code: str, detail: str, line: int) -> None:
        self.code, self.detail, self.line = code, detail, line
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `first` up to, not including, `last`."""

    first: int
    last: int

    def __bool__(self) -> bool:
        return self.first < self.last

    def __contains__(self, index: int) -> bool:
        return self.first <= index < self.last

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))


class Source:
    """The SQL text with its significant tokens and their brackets."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.tokens: tuple[Token, ...] = tuple(significant(tokenize(sql)))
        self.pair = _pairs(self.tokens)
        self._starts = {token.start: index for index, token in enumerate(self.tokens)}
        self._ends = {token.end: index + 1 for index, token in enumerate(self.tokens)}

    def at(self, start: int, end: int) -> Span:
        """The tokens between two offsets."""
        return Span(self._starts[start], self._ends[end])

    def text(self, span: Span) -> str:
        return self.sql[self.tokens[span.first].start : self.tokens[span.last - 1].end] if span else ""

    def same(self, span: Span) -> tuple[str, ...]:
        """What two texts are compared by: their tokens, whatever spaces and comments stand between."""
        return tuple(token.text for token in self.tokens[span.first : span.last])

    def line(self, span: Span) -> int:
        return self.tokens[min(span.first, len(self.tokens) - 1)].line

    def end(self, span: Span) -> int:
        """The offset behind the span's last token, where an insertion cannot fall into a comment."""
        return self.tokens[span.last - 1].end

    def is_op(self, index: int, *texts: str) -> bool:
        return (
            index < len(self.tokens)
            and self.tokens[index].kind is Kind.OPERATOR
            and self.tokens[index].text in texts
        )

    def word(self, index: int) -> str:
        return self.tokens[index].word if 0 <= index < len(self.tokens) else ""

    def shallow(self, span: Span) -> Iterator[int]:
        """The span's tokens outside all brackets; of a bracketed part only the opening one."""
        index = span.first
        while index < span.last:
            yield index
            index = self.pair.get(index, index) + 1

    def split(self, span: Span, separator: str = ",") -> tuple[Span, ...]:
        parts, start = [], span.first
        for index in self.shallow(span):
            if self.is_op(index, separator):
                parts.append(Span(start, index))
                start = index + 1
        return (*parts, Span(start, span.last))

    def unwrap(self, span: Span) -> Span:
        """Without brackets that hold the whole span."""
        while span and self.is_op(span.first, "(") and self.pair[span.first] == span.last - 1:
            span = Span(span.first + 1, span.last - 1)
        return span

    def has_word(self, span: Span, *words: str) -> bool:
        """One of these words stands in the span, at any depth."""
        return any(self.tokens[index].word in words for index in span)

    def waits(self, span: Span) -> bool:
        """Something in the span waits for the request: a variable, or another SELECT that is stored."""
        return any(
            self.tokens[index].kind is Kind.PLACEHOLDER or _ASSET.fullmatch(self.tokens[index].name)
            for index in span
        )

    def placeholders(self, span: Span) -> tuple[int, ...]:
        return tuple(index for index in span if self.tokens[index].kind is Kind.PLACEHOLDER)


def _pairs(tokens: tuple[Token, ...]) -> dict[int, int]:
    pair: dict[int, int] = {}
    stack: list[int] = []
    for index, token in enumerate(tokens):
        if token.kind is Kind.ERROR:
            raise Unreadable("unreadable", f"ClickHouse cannot read {token.text!r} here", token.line)
        if token.kind is not Kind.OPERATOR:
            continue
        if token.text in _OPEN:
            stack.append(index)
        elif token.text in _CLOSE:
            if not stack or _OPEN[tokens[stack[-1]].text] != token.text:
                raise Unreadable("unreadable", f"{token.text!r} closes no bracket", token.line)
            pair[stack.pop()] = index
    if stack:
        raise Unreadable("unreadable", "a bracket is not closed", tokens[stack[-1]].line)
    return pair


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the SELECT list: the whole of it, its expression, its alias if it has one."""

    whole: Span
    expression: Span
    alias: str | None


@dataclass(frozen=True, slots=True)
class Limit:
    """LIMIT … [OFFSET …], or OFFSET alone: spans of the two expressions, and of the whole clause."""

    whole: Span
    limit: Span | None
    offset: Span | None


@dataclass(frozen=True, slots=True)
class LimitBy:
    """LIMIT … BY expressions; `by` is the span behind BY."""

    whole: Span
    by: Span


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT. Spans of clauses hold their bodies, without the keywords."""

    source: Source
    whole: Span
    parts: structure.Select
    items: tuple[Item, ...]
    item_list: Span
    distinct: bool
    distinct_on: Span | None
    clauses: dict[str, Span] = field(default_factory=dict)
    limit: Limit | None = None
    limit_by: LimitBy | None = None

    def body(self, clause: str) -> Span | None:
        return self.clauses.get(clause)


def reads_tables(text: str) -> bool:
    """The text reads a table, or a table function whose rows are not made of its arguments alone."""
    stored = all(_ASSET.fullmatch(table.name) for table in tables(text))
    return not stored or not set(table_functions(text)) <= _MAKES_ROWS


def statement(source: Source) -> Span:
    """The tokens of the one statement, without a closing semicolon."""
    return Span(0, len(strip_semicolons(source.tokens)))


def parse_select(source: Source) -> Select:
    """Take the statement apart if it is one SELECT. Raises Unreadable with the code and line of what stops
    it.
    """
    query = parse(source.sql)
    if len(query.branches) > 1:
        line = source.line(source.at(query.branches[1].start, query.branches[1].end))
        raise Unreadable("set_operator", "variables in a UNION, INTERSECT or EXCEPT", line)
    (select,) = query.branches
    if not isinstance(select, structure.Select) or query.trailing:
        raise Unreadable("unreadable", "the statement is wrapped in brackets", 1)
    return read_select(source, select, statement(source))


def read_select(source: Source, select: structure.Select, whole: Span) -> Select:
    """Take one SELECT of the statement apart; `whole` are its tokens. Raises Unreadable."""
    clauses = _clauses(source, select)
    item_list, distinct, distinct_on = _distinct(source, clauses["SELECT"])
    limit, limit_by = _limits(source, clauses)
    return Select(
        source=source,
        whole=whole,
        parts=select,
        items=tuple(_item(source, part) for part in source.split(item_list) if part),
        item_list=item_list,
        distinct=distinct,
        distinct_on=distinct_on,
        clauses=clauses,
        limit=limit,
        limit_by=limit_by,
    )


def _clauses(source: Source, select: structure.Select) -> dict[str, Span]:
    clauses: dict[str, Span] = {}
    for clause in select.clauses:
        line = source.line(source.at(clause.start, clause.end))
        if not clause.tokens or clause.keyword in clauses or clause.keyword in ("INTO", "FORMAT", "FETCH"):
            raise Unreadable("unreadable", f"{clause.keyword} cannot be taken apart", line)
        clauses[clause.keyword] = source.at(clause.tokens[0].start, clause.tokens[-1].end)
    first = select.clauses[0].keyword if select.clauses else ""
    if "SELECT" not in clauses or first not in ("SELECT", "WITH"):
        raise Unreadable("unreadable", "the statement does not begin with SELECT or WITH", 1)
    return clauses


def _distinct(source: Source, body: Span) -> tuple[Span, bool, Span | None]:
    if source.word(body.first) == "TOP" and source.tokens[body.first + 1].kind is Kind.NUMBER:
        raise Unreadable("unreadable", "SELECT TOP is not read", source.line(body))
    if source.word(body.first) != "DISTINCT":
        return body, False, None
    first = body.first + 1
    if source.word(first) != "ON":
        return Span(first, body.last), True, None
    close = source.pair.get(first + 1, body.last)
    return Span(close + 1, body.last), True, Span(first + 2, close)


def _item(source: Source, span: Span) -> Item:
    last = span.last - 1
    if last - 1 > span.first and source.word(last - 1) == "AS" and source.tokens[last].name:
        return Item(span, Span(span.first, last - 1), source.tokens[last].name)
    if last > span.first and _implicit_alias(source, span, last):
        return Item(span, Span(span.first, last), source.tokens[last].name)
    return Item(span, span, None)


def _implicit_alias(source: Source, span: Span, last: int) -> bool:
    token, before = source.tokens[last], source.tokens[last - 1]
    if not token.name or token.word in KEYWORDS:
        return False
    if token.word in UNITS and last - 2 >= span.first and source.word(last - 2) == "INTERVAL":
        return False
    if before.kind is Kind.OPERATOR:
        return before.text in (")", "]")
    return before.kind is not Kind.WORD or before.word not in KEYWORDS - {"END", "NULL", "TRUE", "FALSE"}


def _limits(source: Source, clauses: dict[str, Span]) -> tuple[Limit | None, LimitBy | None]:
    limit: Limit | None = None
    limit_by: LimitBy | None = None
    if body := clauses.get("LIMIT BY"):
        at = next(i for i in source.shallow(body) if source.word(i) == "BY")
        limit_by = LimitBy(Span(body.first - 1, body.last), Span(at + 1, body.last))
    if body := clauses.get("LIMIT"):
        parts = source.split(body)
        limit = Limit(Span(body.first - 1, body.last), parts[-1], parts[0] if len(parts) > 1 else None)
    if body := clauses.get("OFFSET"):
        if limit is not None and (limit.offset is not None or limit.whole.last != body.first - 1):
            raise Unreadable("unreadable", "OFFSET does not follow its LIMIT", source.line(body))
        first = limit.whole.first if limit else body.first - 1
        limit = Limit(Span(first, body.last), limit.limit if limit else None, body)
    return limit, limit_by
