"""The cut: below it a version's rows or groups are stored, above it the query's own text runs when rows are
read.

For variables that do not name one value: a range over what is no key, an optional variable, a variable in
SELECT, HAVING, ORDER BY or LIMIT. Where the query aggregates, its aggregates are stored per (keys,
dimensions) and merged by the finish; where it does not, its rows are stored as they are. The finish is the
query's text, in which stored terms are replaced by their columns: everything between them is untouched, and
runs in ClickHouse.
"""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.definition.model import Version
from endpoints.query.lexer import Kind
from endpoints.query.ordering import ordered
from endpoints.query.plan.conditions import conjuncts, is_one_value
from endpoints.query.plan.dimensions import Dimensions
from endpoints.query.plan.edits import Edits, quoted
from endpoints.query.plan.functions import adds_floats, aggregate, reproducible
from endpoints.query.plan.keys import select_keys, shadows
from endpoints.query.plan.merging import NotMergeable, state_of
from endpoints.query.plan.model import Described, Finish, Plan, Refusal, Refused, State
from endpoints.query.plan.order import known_width, reads_in_order
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import ORDER_WORDS, Item, Select, Span, reads_tables
from endpoints.query.plan.slices import is_slice
from endpoints.query.plan.terms import Term, calls, insides, names_a_part, reads_rows, terms
from endpoints.query.variables import read_placeholder

_BELOW = ("WITH", "FROM", "GROUP BY")
_ABOVE = ("HAVING", "WINDOW", "QUALIFY", "ORDER BY")


def cut(version: Version, select: Select, described: Described | None) -> Plan | Refused:
    """The plan of one SELECT whose clauses above WHERE run when rows are read."""
    return _Cutter(version, select, described).plan()


class _Cutter:
    """One plan in the making: what is stored so far, and the edits of the text above the cut."""

    def __init__(self, version: Version, select: Select, described: Described | None) -> None:
        self.version, self.select, self.source, self.described = version, select, select.source, described
        self.dimensions = Dimensions(version, select)
        self.refusals: list[Refusal] = self.dimensions.refusals
        self.analysis = select_keys(select)
        # Names that mean something above the cut; no stored column may take their place.
        self.names = {item.alias for item in select.items if item.alias} | set(_window_names(select))
        self.edits = Edits(self.source)
        self.keys: list[str] = []  # what is stored as __k0, __k1, …
        self.states: list[State] = []
        self._key_columns: dict[tuple[str, ...], str] = {}
        self._state_columns: dict[tuple[str, ...], State] = {}
        self._waiting: set[str] = set()  # aliases of items that wait for the request
        # `f(k) AS k`: elsewhere the same text is f(f(k)), so that it names no stored column.
        self._twofold = {
            self.source.same(item.expression)
            for item in select.items
            if item.alias in {self.source.tokens[index].name for index in item.expression}
        }

    def plan(self) -> Plan | Refused:
        self._check()
        below = self._below()
        if self.analysis.aggregated:
            self._group_keys()
        above = self._above()
        if self.refusals:
            return Refused(tuple(dict.fromkeys(self.refusals)))
        if not self.keys and not self.dimensions.found and not self.states:
            self.keys.append("1")  # rows of no columns cannot be stored, but they count
        inner = self._inner(below)
        finish = Finish(
            sql=ordered(above, len(self.select.items)).sql,
            keys=tuple(f"__k{number}" for number in range(len(self.keys))),
            states=tuple(self.states),
            inner_sql=inner,
            variables=self._variables_above(),
            width=len(self.select.items),
        )
        return Plan(
            key=self.version.key,
            materialize_sql=_stored(inner, finish, self.dimensions),
            dimensions=tuple(self.dimensions.found),
            conditions=tuple(self.dimensions.conditions),
            finish=finish,
            width=len(self.select.items),
            distinct=self.select.distinct,
            floats=self._floats(),
        )

    def _floats(self) -> tuple[str, ...]:
        """What is put together from parts, and adds floats in their order, as far as is known by now."""
        if all(dimension.variable is not None for dimension in self.dimensions.found):
            return ()
        return tuple(s.written for s in self.states if adds_floats(s.function, s.type_text or ""))

    def _refuse(self, code: str, span: Span, what: str = "") -> None:
        self.refusals.append(refusal(code, self.source.line(span), what))

    def _check(self) -> None:
        source, select = self.source, self.select
        for name in _BELOW:
            for index in source.placeholders(select.body(name) or Span(0, 0)):
                self._refuse("placeholder_in_" + name.lower().replace(" ", "_"), Span(index, index + 1))
        if "FROM" not in select.clauses:
            self._refuse("unreadable", select.whole, "a SELECT without FROM")
        if known_width(select) is None:
            self._refuse("star", select.item_list)
        self._check_aliases()
        for body in (select.item_list, *(select.clauses[name] for name in _ABOVE if name in select.clauses)):
            if reads_tables(source.text(body)):
                self._refuse("subquery_above", body)
            if any(source.is_op(index, "->") for index in body):
                self._refuse("lambda", body)
            if any((call.function or "").lower() in ("arrayjoin", "unnest") for call in calls(source, body)):
                self._refuse("array_join", body)

    def _check_aliases(self) -> None:
        """Below the cut every name must mean what it means in the query.

        Items that wait for the request are not there; where their alias is also a name below the cut,
        ClickHouse would find a column, or nothing, instead.
        """
        source, select = self.source, self.select
        waiting = {item.alias for item in select.items if item.alias and not self._defines(item)}
        kept = [item.expression for item in select.items if self._defines(item)]
        kept += [select.clauses[name] for name in ("PREWHERE", "WHERE", "GROUP BY") if name in select.clauses]
        for span in kept:
            if not waiting.isdisjoint(source.tokens[index].name for index in span):
                self._refuse("alias", span)
        bodies = [item.expression for item in select.items]
        bodies += [select.clauses[name] for name in _ABOVE if name in select.clauses and name != "WINDOW"]
        for span in bodies:
            if names_a_part(source, span):
                self._refuse("alias", span)
        self._waiting = waiting

    # Below the cut: the user's FROM and WHERE, without what waits for a request.

    def _below(self) -> Edits:
        edits = Edits(self.source)
        for conjunct in conjuncts(self.select):
            if conjunct.clause not in ("PREWHERE", "WHERE"):
                continue
            if is_slice(self.select, conjunct):
                self.dimensions.add_slice(conjunct)
                continue
            self.dimensions.check_place(conjunct)
            if is_one_value(conjunct, self.version.variables):
                self.dimensions.add_seek(conjunct)
            else:
                self.dimensions.add_condition(conjunct)
            edits.replace(conjunct.span, "1")
        return edits

    def _inner(self, below: Edits) -> str:
        """The SELECT below the cut: the user's aliases, for names to mean what they mean, then what is
        stored.
        """
        source, select = self.source, self.select
        items = [source.text(item.whole) for item in select.items if self._defines(item)]
        items += [f"({text}) AS __k{number}" for number, text in enumerate(self.keys)]
        items += [f"({d.stored}) AS {d.column}" for d in self.dimensions.found]
        items += [f"{state.stored} AS {state.column}" for state in self.states]
        first = select.clauses["SELECT"].first - 1
        pieces = [below.apply(Span(select.whole.first, first)) + "\n" if first > select.whole.first else ""]
        pieces.append("SELECT " + ", ".join(items or ["1"]))
        below_text = [(name, select.body(name)) for name in ("FROM", "PREWHERE", "WHERE")]
        pieces += [f"\n{name} {below.apply(body)}" for name, body in below_text if body]
        if self.analysis.aggregated:
            columns = [f"__k{number}" for number in range(len(self.keys))]
            columns += [dimension.column for dimension in self.dimensions.found]
            pieces.append("\nGROUP BY " + (", ".join(columns) or "tuple()"))
        return "".join(pieces)

    def _defines(self, item: Item) -> bool:
        source = self.source
        return (
            item.alias is not None
            and not source.waits(item.whole)
            and not source.has_word(item.whole, "OVER")
        )

    # Above the cut: the user's text, with columns in place of what is stored.

    def _group_keys(self) -> None:
        source, select = self.source, self.select
        for key in self.analysis.group_keys:
            if not key:
                self._refuse("group_by_nothing", select.clauses["GROUP BY"])
                continue
            named = next((item for item in select.items if item.expression == key and item.alias), None)
            self._store(key, quoted(named.alias) if named and named.alias else source.text(key))
            for item in select.items:
                # An alias and its expression are one key, unless the same text means two things.
                same = source.same(item.expression) == source.same(key) or item.alias == source.text(key)
                if item.alias and same and (item is named or not shadows(select, item)):
                    column = self._key_columns[source.same(source.unwrap(key))]
                    self._key_columns[(item.alias,)] = self._key_columns[source.same(item.expression)] = (
                        column
                    )

    def _store(self, span: Span, text: str) -> str:
        same = self.source.same(self.source.unwrap(span))
        if same not in self._key_columns:
            self._key_columns[same] = f"__k{len(self.keys)}"
            self.keys.append(text)
        return self._key_columns[same]

    def _stored_as(self, span: Span) -> str | None:
        """The column that holds what the span's text means."""
        same = self.source.same(span)
        return None if same in self._twofold else self._key_columns.get(same)

    def _above(self) -> str:
        select, edits = self.select, self.edits
        for item in select.items:
            self._item(item)
        pieces = ["SELECT "]
        if select.distinct:
            pieces.append("DISTINCT ")
        if select.distinct_on:
            self._elements(select.distinct_on)
            pieces.append(f"ON ({edits.apply(select.distinct_on)}) ")
        for name in _ABOVE:
            if body := select.body(name):
                self._elements(body) if name == "ORDER BY" else self._replace(body)
        if select.limit_by:
            self._elements(select.limit_by.by)
        pieces += [edits.apply(select.item_list), "\nFROM __asset"]
        if "GROUP BY" in select.clauses:
            # Without keys there is nothing to merge by: GROUP BY tuple() still gives no row on nothing.
            pieces.append("\nGROUP BY " + (", ".join(f"__k{n}" for n in range(len(self.keys))) or "tuple()"))
        pieces += [
            f"\n{name} {edits.apply(select.clauses[name])}" for name in _ABOVE if name in select.clauses
        ]
        pieces += [
            "\n" + edits.apply(part.whole) for part in (select.limit_by, select.limit) if part is not None
        ]
        return "".join(pieces)

    def _item(self, item: Item) -> None:
        source = self.source
        if item.alias is not None and (item.alias,) in self._key_columns:
            self.edits.replace(item.expression, self._key_columns[(item.alias,)])
        elif not self.analysis.aggregated and self._is_plain(item):
            text = quoted(item.alias) if item.alias else source.text(item.expression)
            self.edits.replace(item.expression, self._store(item.expression, text))
        else:
            self._element(item.expression)
        if item.alias is None:
            self.edits.insert_after(item.whole, f" AS {quoted(self._name(item))}")

    def _name(self, item: Item) -> str:
        """What ClickHouse calls an item without an alias; check_plan sees to it where it does not."""
        tokens = self.source.tokens[item.expression.first : item.expression.last]
        if all(token.name or token.text == "." for token in tokens):
            return tokens[-1].name
        return "".join(", " if token.text == "," else token.text for token in tokens)

    def _is_plain(self, item: Item) -> bool:
        """The item's value is that of a stored row: nothing in it waits for the request."""
        source = self.source
        return not source.waits(item.expression) and not source.has_word(item.expression, "OVER")

    def _elements(self, body: Span) -> None:
        for element in self.source.split(body):
            self._element(element)

    def _element(self, span: Span) -> None:
        """One expression of a list, with what may follow it in ORDER BY."""
        source = self.source
        last = next((i for i in source.shallow(span) if source.word(i) in ORDER_WORDS), span.last)
        expression = source.unwrap(Span(span.first, last))
        column = self._stored_as(expression) if expression else None
        if column is not None:
            self.edits.replace(expression, column)
        else:
            self._replace(span)

    def _replace(self, span: Span) -> None:
        """Put columns in place of the terms that are stored, wherever they stand in the span."""
        source = self.source
        for term in terms(source, span):
            column = self._stored_as(term.span)
            if column is not None:
                self.edits.replace(term.span, column)
            elif self.analysis.aggregated and term.function and not term.over and aggregate(term.function):
                self._state(term)
            elif not self.analysis.aggregated and self._is_row_value(term):
                self.edits.replace(term.span, self._store(term.span, source.text(term.span)))
            else:
                if term.over and term.function and not reproducible(term.function):
                    self._check_ordered(term)
                for inside in insides(source, term):
                    self._replace(inside)

    def _check_ordered(self, term: Term) -> None:
        """first_value and the like take what comes first: in a window without an order, that is any row."""
        if not self.source.has_word(term.span, "ORDER"):
            self._refuse("aggregate", term.head, self.source.text(term.head))

    def _is_row_value(self, term: Term) -> bool:
        source = self.source
        if term.over or source.waits(term.span) or not reads_rows(source, term.span):
            return False
        return self.names.isdisjoint(source.tokens[index].name for index in term.span)

    def _state(self, term: Term) -> None:
        source, text = self.source, self.source.same(term.head)
        try:
            if not self._waiting.isdisjoint(source.tokens[index].name for index in term.head):
                self._refuse("alias", term.head)
            if source.waits(term.head):
                self._refuse("placeholder_in_aggregate", term.head, source.text(term.head))
                return
            if not reproducible(term.function or "") and reads_in_order(self.select):
                raise NotMergeable
            if text not in self._state_columns:
                state = state_of(source, term, f"__s{len(self.states)}", self._state_type())
                self._state_columns[text] = state
                self.states.append(state)
        except NotMergeable:
            self._refuse("aggregate", term.head, source.text(term.head))
            return
        self.edits.replace(term.head, self._state_columns[text].merges)

    def _state_type(self) -> str | None:
        types = self.described.state_types if self.described else ()
        return types[len(self.states)] if len(self.states) < len(types) else None

    def _variables_above(self) -> tuple[str, ...]:
        source, select = self.source, self.select
        bodies = [select.item_list, *(select.clauses[name] for name in _ABOVE if name in select.clauses)]
        bodies += [part.whole for part in (select.limit_by, select.limit) if part is not None]
        if select.distinct_on:
            bodies.append(select.distinct_on)
        held = (source.tokens[index] for body in bodies for index in body)
        return tuple(dict.fromkeys(read_placeholder(t).name for t in held if t.kind is Kind.PLACEHOLDER))


def _window_names(select: Select) -> Iterator[str]:
    body = select.body("WINDOW")
    for part in select.source.split(body) if body else ():
        yield select.source.tokens[part.first].name


def _stored(inner: str, finish: Finish, dimensions: Dimensions) -> str:
    """The materializing SQL: what files can hold of the inner SELECT, sorted by what is sought, then by
    key.
    """
    return "".join(
        (
            "SELECT ",
            ", ".join(_columns(finish, dimensions)),
            "\nFROM (\n",
            inner,
            "\n)",
            _order(finish, dimensions),
        )
    )


def _columns(finish: Finish, dimensions: Dimensions) -> Iterator[str]:
    yield from (*finish.keys, *(d.column for d in dimensions.found))
    for state in finish.states:
        if state.kept_as_state:
            yield f"CAST({state.column} AS String) AS {quoted(state.name)}"
        else:
            yield state.column


def _order(finish: Finish, dimensions: Dimensions) -> str:
    others = [d.column for d in dimensions.found if d.variable is None]
    columns = [*dimensions.seek, *finish.keys, *others]
    return "\nORDER BY " + ", ".join(columns) if columns else ""
