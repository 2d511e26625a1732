"""Which columns of which tables a query's columns are computed from, by its tokens and the tables' columns.

Never wrong, often silent: what tokens alone cannot tell for certain (a name that is an alias and a column,
two tables that both have it, a table function, `* EXCEPT`) is left out. A value's columns are those in its
expression, through aliases, subqueries, WITH and UNION; conditions, which decide which rows there are,
count for nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from endpoints.query.items import (
    AFTER_TABLE,
    OPERATORS,
    WORDS,
    after_type,
    aliased,
    chain,
    end_of_arrays,
    inner_aliases,
    is_cast,
    is_columns,
    items,
    lambda_names,
    opens_query,
    plain_name,
    split,
    value_positions,
)
from endpoints.query.lexer import Token
from endpoints.query.structure import Query, Select, closing, parse, subqueries
from endpoints.query.tables import Table

Upstream: TypeAlias = frozenset[tuple[Table, str]]
ColumnsOf: TypeAlias = Callable[[Table], "Sequence[str] | None"]
ViewOf: TypeAlias = Callable[[Table], "str | None"]

_DEEPEST: Final = 20


@dataclass(frozen=True, slots=True)
class Output:
    """A column that a query gives: its name where the text writes it, what it comes from where known."""

    name: str | None
    upstream: Upstream | None


@dataclass(slots=True)
class _Scope:
    """What names mean in one SELECT: `tables` by the names they go by, `own` what aliases stand for."""

    tables: list[tuple[frozenset[str], tuple[Output, ...] | None]] = field(default_factory=list)
    own: dict[str, tuple[Token, ...]] = field(default_factory=dict)


def column_lineage(
    sql: str, names: Sequence[str], columns_of: ColumnsOf, view_of: ViewOf = lambda table: None
) -> dict[str, Upstream]:
    """What each result column is computed from; those that cannot be told are left out.

    `names` are the result's, as DESCRIBE gives them. `columns_of` gives a table's columns in order, None
    where it is not known; `view_of` the query of a view.
    """
    outputs = _Reader(columns_of, view_of).query(parse(sql), {}, 0)
    if outputs is None or len(outputs) != len(names):
        return {}
    return {
        name: output.upstream
        for name, output in zip(names, outputs, strict=True)
        if output.upstream is not None and output.name in (None, name)
    }


class _Reader:
    """Reads queries from the inside out. `ctes` are the queries that WITH has named so far."""

    def __init__(self, columns_of: ColumnsOf, view_of: ViewOf) -> None:
        self._columns_of, self._view_of = columns_of, view_of

    def query(
        self, query: Query, ctes: Mapping[str, tuple[Output, ...] | None], depth: int
    ) -> tuple[Output, ...] | None:
        """The columns of a query; of several SELECTs by position, named by the first."""
        if depth > _DEEPEST or not query.branches:
            return None
        known = dict(ctes)
        branches = []
        for branch in query.branches:
            read = (
                self.query(branch, known, depth + 1)
                if isinstance(branch, Query)
                else self._select(branch, known, depth)
            )
            if read is None:
                return None
            branches.append(read)
        if len({len(outputs) for outputs in branches}) != 1:
            return None
        return tuple(
            Output(same[0].name, _together(output.upstream for output in same))
            for same in zip(*branches, strict=True)
        )

    def _select(
        self, select: Select, ctes: dict[str, tuple[Output, ...] | None], depth: int
    ) -> tuple[Output, ...] | None:
        clause = select.clause("SELECT")
        if clause is None:
            return None
        scope = _Scope()
        if (with_ := select.clause("WITH")) is not None and not self._with(with_.tokens, ctes, scope, depth):
            return None
        if (from_ := select.clause("FROM")) is not None and not self._from(from_.tokens, ctes, scope, depth):
            return None
        found = items(clause.tokens)
        if found is None:
            return None
        named = [aliased(item) for item in found]
        for expression, alias in named:
            if alias is not None and scope.own.setdefault(alias, expression) != expression:
                return None  # two expressions of one name
            for name, inner in inner_aliases(expression):
                scope.own.setdefault(name, inner)
        outputs: list[Output] = []
        for expression, alias in named:
            if any(token.text == "*" for token in expression[-1:]) or is_columns(expression):
                star = self._star(expression, scope)
                if star is None:
                    return None
                outputs += star
            else:
                within = frozenset({alias} if alias else ())
                upstream = self._expression(expression, scope, ctes, depth, within)
                outputs.append(Output(alias or plain_name(expression), upstream))
        return tuple(outputs)

    def _with(
        self,
        tokens: Sequence[Token],
        ctes: dict[str, tuple[Output, ...] | None],
        scope: _Scope,
        depth: int,
    ) -> bool:
        """Take in `name AS (SELECT …)` and `expression AS name`; False where neither is there."""
        if tokens[:1] and tokens[0].word == "RECURSIVE":
            return False
        for item in split(tokens):
            if (
                len(item) > 3
                and item[1].word == "AS"
                and item[2].text == "("
                and closing(item, 2) == len(item) - 1
            ):
                inner = next(iter(subqueries(item[2:])), None)
                if inner is not None:
                    ctes[item[0].name] = self.query(inner, ctes, depth + 1)
                    continue
            expression, alias = aliased(item)
            if alias is None:
                return False
            scope.own[alias] = expression
        return True

    def _from(
        self,
        tokens: Sequence[Token],
        ctes: Mapping[str, tuple[Output, ...] | None],
        scope: _Scope,
        depth: int,
    ) -> bool:
        """Take in every table and subquery of FROM; False where there is something else."""
        index, arrays, due = 0, False, True
        while index < len(tokens):
            token = tokens[index]
            if token.word == "JOIN" or token.text == ",":
                arrays = (index > 0 and token.word == "JOIN" and tokens[index - 1].word == "ARRAY") or (
                    arrays and token.text == ","
                )
                due, index = not arrays, index + 1
                if arrays:
                    end = end_of_arrays(tokens, index)
                    if not self._arrays(tokens[index:end], scope):
                        return False
                    index = end
                continue
            if not due:
                index = closing(tokens, index) + 1 if token.text in ("(", "[") else index + 1
                continue
            after = self._table(tokens, index, ctes, scope, depth)
            if after is None:
                return False
            index, due = after, False
        return True

    def _table(
        self,
        tokens: Sequence[Token],
        index: int,
        ctes: Mapping[str, tuple[Output, ...] | None],
        scope: _Scope,
        depth: int,
    ) -> int | None:
        """Take in the table or subquery at `index`; the index after it and its alias."""
        names: frozenset[str]
        if tokens[index].text == "(":
            end = closing(tokens, index)
            inner = next(iter(subqueries(tokens[index : end + 1])), None)
            if inner is None:
                return None  # joins in brackets
            outputs, names = self.query(inner, ctes, depth + 1), frozenset()
            end += 1
        else:
            end, parts = index, list[str]()
            while end < len(tokens) and tokens[end].name:
                parts.append(tokens[end].name)
                end += 1
                if end >= len(tokens) or tokens[end].text != ".":
                    break
                end += 1
            if not parts or len(parts) > 2 or (end < len(tokens) and tokens[end].text == "("):
                return None  # a table function, or nothing that is a table
            outputs, names = self._named(parts, ctes, depth), frozenset({parts[-1], ".".join(parts)})
        if end < len(tokens) and tokens[end].word == "FINAL":
            end += 1
        if end < len(tokens) and tokens[end].word == "AS":
            end += 1
            names, end = frozenset({tokens[end].name}), end + 1
        elif end < len(tokens) and tokens[end].name and tokens[end].word not in AFTER_TABLE:
            names, end = frozenset({tokens[end].name}), end + 1
        scope.tables.append((names, outputs))
        return end

    def _named(
        self, parts: Sequence[str], ctes: Mapping[str, tuple[Output, ...] | None], depth: int
    ) -> tuple[Output, ...] | None:
        """The columns of a table, of a view as its query gives them, or of what WITH has named."""
        if len(parts) == 1 and parts[0] in ctes:
            return ctes[parts[0]]
        table = Table(".".join(parts[:-1]), parts[-1])
        columns = self._columns_of(table)
        if columns is None:
            return None
        view = self._view_of(table)
        seen = self.query(parse(view), {}, depth + 1) if view is not None else None
        if seen is not None and len(seen) == len(columns):
            own = zip(columns, seen, strict=True)
            return tuple(
                Output(name, frozenset({(table, name)}) if o.upstream is None else o.upstream)
                for name, o in own
            )
        return tuple(Output(name, frozenset({(table, name)})) for name in columns)

    def _arrays(self, tokens: Sequence[Token], scope: _Scope) -> bool:
        """Take in what ARRAY JOIN lists: an alias means the array's elements, which come from its columns."""
        for item in split(tokens):
            expression, alias = aliased(item)
            if alias is not None:
                scope.own[alias] = expression
        return True

    def _star(self, expression: Sequence[Token], scope: _Scope) -> list[Output] | None:
        """What `*` or `t.*` stands for; None where that is not told by the tables' columns alone."""
        if len(expression) == 1:
            tables = scope.tables if len(scope.tables) == 1 else []
        elif len(expression) == 3 and expression[1].text == ".":
            tables = [found for found in scope.tables if expression[0].name in found[0]]
        else:
            tables = []
        if len(tables) != 1 or tables[0][1] is None:
            return None
        return list(tables[0][1])

    def _expression(
        self,
        tokens: Sequence[Token],
        scope: _Scope,
        ctes: Mapping[str, tuple[Output, ...] | None],
        depth: int,
        within: frozenset[str],
    ) -> Upstream | None:
        """The columns in an expression; `within` are the aliases whose own expression this is."""
        if depth > _DEEPEST:
            return None
        operand, found = value_positions(tokens), list["Upstream | None"]()
        bound = lambda_names(tokens)
        index = 0
        while index < len(tokens):
            token = tokens[index]
            if token.text == "(" and opens_query(tokens, index):
                inner = next(iter(subqueries(tokens[index : closing(tokens, index) + 1])), None)
                outputs = None if inner is None else self.query(inner, ctes, depth + 1)
                found.append(None if outputs is None else _together(o.upstream for o in outputs))
                index = closing(tokens, index) + 1
            elif token.text == "::" or (token.word == "AS" and is_cast(tokens, index)):
                index = after_type(tokens, index + 1)
            elif token.word == "AS":
                index += 2
            elif not token.name or (token.word in OPERATORS and not operand[index]):
                index += 1
            elif not operand[index]:
                return None  # a name where none is due
            else:
                parts, end = chain(tokens, index)
                if end < len(tokens) and tokens[end].text == "(" and len(parts) == 1:
                    index = end  # a function
                    continue
                found.append(self._name(parts, token, scope, ctes, depth, within, bound))
                index = end
        return _together(found)

    def _name(
        self,
        parts: Sequence[str],
        token: Token,
        scope: _Scope,
        ctes: Mapping[str, tuple[Output, ...] | None],
        depth: int,
        within: frozenset[str],
        bound: frozenset[str],
    ) -> Upstream | None:
        """What one name comes from; None where it could mean several things, or none that is known."""
        first, columns = parts[0], _columns(parts, scope)
        is_alias = first in scope.own and first not in within
        if first in bound:
            return None if columns or is_alias else frozenset()
        if token.word in WORDS:
            return None if columns or is_alias else frozenset()
        if is_alias:
            if columns or len(parts) > 1:
                return None
            return self._expression(scope.own[first], scope, ctes, depth + 1, within | {first})
        return columns[0] if len(columns) == 1 and _is_known(scope) else None


def _columns(parts: Sequence[str], scope: _Scope) -> list[Upstream | None]:
    """Every column that a name with dots can mean, by what it comes from."""
    found: list[Upstream | None] = []
    for names, outputs in scope.tables:
        known = {output.name: output.upstream for output in outputs or ()}
        for width in range(len(parts)):
            # `t.c`, `db.t.c`, `c`, and `c.element` of a tuple or a nested column
            if width and ".".join(parts[:width]) not in names:
                continue
            rest = parts[width:]
            found += [
                known[name] for name in (".".join(rest[: n + 1]) for n in range(len(rest))) if name in known
            ]
    return found


def _is_known(scope: _Scope) -> bool:
    """Whether every table's columns are known: another might have any name."""
    return all(outputs is not None for _, outputs in scope.tables)


def _together(found: Iterable[Upstream | None]) -> Upstream | None:
    whole: Upstream = frozenset()
    for one in found:
        if one is None:
            return None
        whole |= one
    return whole
