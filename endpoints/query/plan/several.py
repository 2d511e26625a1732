"""Several SELECTs stored side by side, and the query's own text around them run when rows are read.

For variables in subqueries, CTEs, UNIONs, both sides of a join: each SELECT over tables is stored by the
rules for one SELECT, or as it answers where no variable is in it. What joins them is not taken apart but run
by ClickHouse over what a request selects of each, so that nothing has to be proved about it.

In the text that is left, `__asset1` is the answer of the second SELECT, `__stored1` are its rows before its
own finish.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from endpoints.definition.model import Version
from endpoints.query.conjuncts import conjuncts
from endpoints.query.inline import alias_follows, inlined
from endpoints.query.lexer import significant, tokenize
from endpoints.query.ordering import ordered
from endpoints.query.plan.beneath import rows_beneath
from endpoints.query.plan.carry import carry
from endpoints.query.plan.cut import cut
from endpoints.query.plan.edits import quoted, renamed
from endpoints.query.plan.model import PART, Condition, Cut, Described, Dimension, Finish, Plan, stored_name
from endpoints.query.plan.nested import made_names, width_of
from endpoints.query.plan.order import misses_order
from endpoints.query.plan.select import Source, Unreadable, parse_select, reads_tables, statement
from endpoints.query.plan.shape import not_selected, under_variables
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import Query, Select, operand_positions, parse, selects, subqueries
from endpoints.query.tables import table_spans
from endpoints.query.variables import placeholders
from endpoints.types import ClickHouseType, Column

_FINISHED = frozenset({"SELECT", "HAVING", "WINDOW", "QUALIFY", "ORDER BY", "LIMIT BY", "LIMIT", "OFFSET"})
"""Clauses of a stored SELECT that run when rows are read."""
_NOT_AROUND = frozenset({"SETTINGS", "TOTALS", "RECURSIVE", "FORMAT", "INTO", "FINAL", "SAMPLE", "TIES"})
"""Words that the text around the stored SELECTs may not have."""
_ROWS = "SELECT * FROM "
"""How a SELECT begins that is written here, for the rows of a table: a query's own has a star."""
_COMPARING = frozenset({"DISTINCT", "INTERSECT", "EXCEPT"})
_EXPANDING = frozenset({"COLUMNS", "UNTUPLE", "NATURAL", "APPLY"})
"""Words by which a query reads columns without naming them, beside `*`."""
_OPERATORS = _COMPARING | {"UNION", "ALL"}


def several(version: Version, source: Source, described: Described | None) -> Plan | None:
    """The plan of a statement whose SELECTs over tables can each be stored; None if one cannot."""
    sql = inlined(_unwrapped(source.text(statement(source))))
    if sql is None:
        return None
    try:
        return _Several(replace(version, sql=sql)).plan(described)
    except (_Stopped, Unreadable):
        return None


def _unwrapped(sql: str) -> str:
    """The statement without brackets around the whole of it."""
    query = parse(sql)
    while len(query.branches) == 1 and isinstance(inner := query.branches[0], Query) and not query.trailing:
        query = inner
    return sql[query.start : query.end]


class _Stopped(Exception):
    """Some SELECT cannot be stored."""


class _Several:
    """One plan in the making: the SELECTs stored so far."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._parts: list[Plan] = []
        self._known: dict[str, str] = {}  # the text of a SELECT → what reads its answer
        self._made = _made_in_with(version.sql)

    def plan(self, described: Described | None) -> Plan:
        whole, width = self._version.sql, width_of(self._version.sql)
        sql = self._query(whole)
        if not self._parts or reads_tables(sql):
            raise _Stopped
        self._check_around(sql)
        self._keep_named()
        sql = self._opened(sql)
        variables = tuple(dict.fromkeys(place.name for place in placeholders(sql)))
        words = {token.word for token in significant(tokenize(whole))}
        return Plan(
            key=self._version.key,
            materialize_sql=";\n\n".join(part.materialize_sql for part in self._parts),
            dimensions=tuple(self._dimensions()),
            finish=Finish(_in_order(sql, width), (), (), "", variables, width),
            width=len(described.names) if described and width is None else width,
            distinct=not words.isdisjoint(_COMPARING),
            parts=tuple(self._parts),
            floats=tuple(dict.fromkeys(written for part in self._parts for written in part.floats)),
        )

    def _keep_named(self) -> None:
        """Of whole rows only those columns are stored that the query names, if it names all it reads."""
        tokens = significant(tokenize(self._version.sql))
        due = operand_positions(tokens)
        places = (index for index, token in enumerate(tokens) if token.text == "*" and due[index])
        stars = [index for index in places if tokens[index - 2].word != "COUNT"]
        names = {token.name for token in tokens} - {""}
        if stars or not _EXPANDING.isdisjoint(token.word for token in tokens):
            return
        whole = {reader for text, reader in self._known.items() if text.startswith(_ROWS)}
        for number, part in enumerate(self._parts):
            if _answer_of(number) in whole and part.finish is not None:
                self._parts[number] = replace(part, finish=replace(part.finish, keys=tuple(sorted(names))))

    def _dimensions(self) -> Iterator[Dimension]:
        """The parts' columns as they are stored. None is sought as it is: what is sought is a part's."""
        for number, part in enumerate(self._parts):
            for dimension in part.dimensions:
                column = stored_name(number, dimension.column)
                yield replace(dimension, column=column, variable=None)

    def _opened(self, sql: str) -> str:
        """A statement that is one stored SELECT is finished by that one's own text, which has its order."""
        last = len(self._parts) - 1
        if sql != _answer_of(last):
            return sql
        finish = self._parts[last].finish
        assert finish is not None
        return renamed(finish.sql, "__asset", f"__stored{last}")

    # Each of these takes the text of a query and gives the text that reads what is stored of it.

    def _query(self, sql: str) -> str:
        return splice(sql, self._edits(sql, parse(sql)))

    def _edits(self, sql: str, query: Query) -> Iterator[Edit]:
        if not _only_joins(sql, query):
            raise _Stopped
        for branch in query.branches:
            if isinstance(branch, Query):
                yield from self._edits(sql, branch)
            else:
                yield Edit(branch.start, branch.end, self._select(sql[branch.start : branch.end]))

    def _select(self, sql: str) -> str:
        if not reads_tables(sql):
            return sql
        if not placeholders(sql):
            return self._stored(sql, _as_it_answers(self._own(sql)))
        (select,) = parse(sql).branches
        assert isinstance(select, Select)
        from_ = select.clause("FROM")
        if from_ is None or not placeholders(sql[from_.start : from_.end]):
            return self._direct(sql, select)
        inside = tuple(subqueries(from_.tokens))
        held = (place for place in placeholders(sql) if from_.start <= place.start < from_.end)
        if any(not _is_in(inside, place.start) for place in held):
            raise _Stopped  # in ON: whole tables would have to be joined for each request
        return self._around(sql, select)

    def _direct(self, sql: str, select: Select) -> str:
        """A SELECT whose own clauses hold the variables: carried, or cut, or cut above its rows."""
        if sql in self._known:
            return self._known[sql]
        if (plan := _carried(self._own(sql))) is not None:
            return self._stored(sql, plan)
        kept = len(self._parts)
        try:
            return self._stored(sql, _cut(self._own(splice(sql, self._above(sql, select)))))
        except _Stopped:
            del self._parts[kept:]
            readers = [_answer_of(number) for number in range(kept)]
            self._known = {text: reader for text, reader in self._known.items() if reader in readers}
            beneath = rows_beneath(sql, select)
            if beneath is None:
                raise
            (around,) = parse(beneath).branches
            assert isinstance(around, Select)
            return self._around(beneath, around)

    def _above(self, sql: str, select: Select) -> Iterator[Edit]:
        """The subqueries of what runs when rows are read: clauses above a cut, conditions on variables."""
        for clause in select.clauses:
            if clause.keyword in _FINISHED:
                for query in subqueries(clause.tokens):
                    yield from self._edits(sql, query)
            elif clause.keyword in ("PREWHERE", "WHERE"):
                for conjunct in conjuncts(clause):
                    for query in subqueries(conjunct.tokens) if conjunct.variables else ():
                        yield from self._edits(sql, query)

    def _around(self, sql: str, select: Select) -> str:
        """A SELECT that runs when rows are read, over subqueries with variables and tables beside them."""
        if any(not_selected(parse_select(Source(sql)))):
            raise _Stopped
        queries = [query for clause in select.clauses for query in subqueries(clause.tokens)]
        edits = [edit for query in queries for edit in self._edits(sql, query)]
        tokens = significant(tokenize(sql))
        for first, last in table_spans(tokens):
            start, end = tokens[first].start, tokens[last - 1].end
            if _is_in(queries, start):
                continue
            text = sql[start:end]
            named = alias_follows(tokens, last) or tokens[first - 1].word == "IN"
            own = "" if named else f" AS {tokens[last - 1].text}"
            rows = self._select(f"{_ROWS}{text}")
            edits.append(Edit(start, end, f"({rows}){own}"))
        around = splice(sql, edits)
        self._check_around(around)
        return around

    def _check_around(self, sql: str) -> None:
        """What runs when rows are read gives live's answer in whatever order they come."""
        source = Source(sql)
        ordered_below = any(
            select.depth and select.clause("ORDER BY") for select in selects(self._version.sql)
        )
        if any(token.word in _NOT_AROUND for token in source.tokens) or misses_order(source, ordered_below):
            raise _Stopped

    def _own(self, sql: str) -> Version:
        """The version that a SELECT alone would be. It may use no name that is made outside of it."""
        names = {place.name for place in placeholders(sql)}
        used = {token.name for token in significant(tokenize(sql))}
        if not used.isdisjoint(self._made - _made_in_with(sql)):
            raise _Stopped
        variables = {name: one for name, one in self._version.variables.items() if name in names}
        return replace(self._version, sql=sql, variables=variables)

    def _stored(self, sql: str, plan: Plan) -> str:
        """What reads the answer of one more SELECT."""
        if sql not in self._known:
            self._known[sql] = _answer_of(len(self._parts))
            self._parts.append(plan)
        return self._known[sql]


def _in_order(sql: str, width: int | None) -> str:
    return sql if width is None else ordered(sql, width).sql


def _is_in(queries: Sequence[Query], offset: int) -> bool:
    return any(query.start <= offset < query.end for query in queries)


def _only_joins(sql: str, query: Query) -> bool:
    """Between the branches stand operators and brackets: no ORDER BY or LIMIT of what is in brackets."""
    tokens = significant(tokenize(sql[query.start : query.end]))
    between = [
        token
        for token in tokens
        if not any(branch.start <= query.start + token.start < branch.end for branch in query.branches)
    ]
    return all(token.text in ("(", ")") or token.word in _OPERATORS for token in between)


def _answer_of(part: int) -> str:
    return f"SELECT * FROM __asset{part}"  # noqa: S608  (our own names)


def _as_it_answers(version: Version) -> Plan:
    finish = Finish("SELECT *\nFROM __asset", (), (), version.sql, (), None)
    return Plan(version.key, version.sql, (), finish=finish)


def _carried(version: Version) -> Plan | None:
    """The SELECT with its dimensions carried to its answer, if that is all its rows."""
    select = parse_select(Source(version.sql))
    if any(under_variables(select)):
        return None
    plan = carry(version, select, None)
    if plan is None or plan.cut != Cut():
        return None
    hidden = ", ".join(dimension.column for dimension in plan.dimensions)
    sql = f"SELECT * EXCEPT ({hidden})\nFROM __asset"
    return replace(plan, finish=Finish(sql, (), (), plan.materialize_sql, (), None))


def _cut(version: Version) -> Plan:
    select = parse_select(Source(version.sql))
    if any(under_variables(select)):
        raise _Stopped
    plan = cut(version, select, None)
    if not isinstance(plan, Plan) or any(_drops_a_part(condition, version) for condition in plan.conditions):
        raise _Stopped
    return plan


def _drops_a_part(condition: Condition, version: Version) -> bool:
    """An absent variable would take away a condition within a subquery, not the one around it."""
    optional = any(version.variables[name].optional for name in condition.variables)
    return optional and any(token.word == "SELECT" for token in significant(tokenize(condition.sql)))


def side_by_side(parts: Sequence[Plan], columns: Sequence[Sequence[Column]]) -> str:
    """The SQL that gives all parts' rows, each with `__part` and its own `columns`; the others' are empty.

    A column is named as its part names it, states with their types behind their names.
    """
    branches = []
    named = [{s.column: s.name for s in part.finish.states} if part.finish else {} for part in parts]
    for number, part in enumerate(parts):
        items = [f"toUInt8({number}) AS {PART}"]
        for other, own in enumerate(columns):
            for column in own:
                name = column.name.partition(" ")[0]
                stored = quoted(stored_name(other, named[other].get(name, column.name)))
                text = quoted(column.name) if other == number else _default(column.type)
                items.append(f"{text} AS {stored}")
        branches.append(f"SELECT {', '.join(items)}\nFROM (\n{part.materialize_sql}\n)")
    sought = [stored_name(n, d.column) for n, part in enumerate(parts) for d in part.seek]
    united = "\nUNION ALL\n".join(branches)
    order = ", ".join((PART, *sought))
    return f"SELECT *\nFROM (\n{united}\n)\nORDER BY {order}"


def read_columns(part: Plan, columns: Sequence[Column]) -> tuple[Column, ...]:
    """Of a part's columns those that are stored: whole tables only lend what the query may name."""
    assert part.finish is not None
    if not part.finish.keys or part.finish.states:
        return tuple(columns)
    kept = {*part.finish.keys, *(dimension.column for dimension in part.dimensions)}
    return tuple(column for column in columns if column.name in kept) or tuple(columns[:1])


def _default(type_: ClickHouseType) -> str:
    """A value of the type, the same in all rows."""
    text = type_.text.replace("\\", "\\\\").replace("'", "\\'")
    return f"CAST(defaultValueOfTypeName('{text}') AS {type_.text})"


def _made_in_with(sql: str) -> frozenset[str]:
    """The names that WITH makes, anywhere in the text."""
    clauses = (select.clause("WITH") for select in selects(sql))
    return frozenset(name for clause in clauses if clause for name in made_names(clause.tokens)) - {""}
