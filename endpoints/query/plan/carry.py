"""Carrying dimensions: from a condition up through every clause of its SELECT, as a hidden column."""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.definition.model import Version
from endpoints.query.lexer import Kind
from endpoints.query.plan.conditions import Conjunct, conjuncts, is_one_value
from endpoints.query.plan.edits import Edits, lift, quoted
from endpoints.query.plan.functions import reproducible
from endpoints.query.plan.keys import Decided, select_keys
from endpoints.query.plan.model import Condition, Cut, Dimension, Plan, Refusal, Refused
from endpoints.query.plan.order import known_width, orders_by_all, total_order
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import Item, Select, Span
from endpoints.query.plan.shape import under_variables
from endpoints.query.plan.terms import aggregates, calls, liftable
from endpoints.query.variables import read_placeholder


def carry(version: Version, select: Select, names: tuple[str, ...] | None) -> Plan | Refused:
    """The plan of one SELECT that holds variables in its filters."""
    if reasons := (*under_variables(select), *_misplaced(version, select)):
        return Refused(tuple(reasons))
    return _Carrier(version, select, names).plan()


_PLACES = ("WITH", "SELECT", "FROM", "GROUP BY", "WINDOW", "QUALIFY", "ORDER BY", "LIMIT BY")


def _misplaced(version: Version, select: Select) -> Iterator[Refusal]:
    source = select.source
    for name in _PLACES:
        for index in source.placeholders(select.body(name) or Span(0, 0)):
            code = "placeholder_in_" + name.lower().replace(" ", "_")
            yield refusal(code, source.tokens[index].line)
    for variable in version.variables.values():
        if variable.bucket is not None:
            yield refusal("bucket", variable.line, variable.name)


class _Carrier:
    """One plan in the making: dimensions found so far, and the edits that carry them."""

    def __init__(self, version: Version, select: Select, names: tuple[str, ...] | None) -> None:
        self.names = names
        self.version, self.select, self.source = version, select, select.source
        self.edits = Edits(self.source)
        self.dimensions: list[Dimension] = []
        self.conditions: list[Condition] = []
        self.refusals: list[Refusal] = []
        self._columns: dict[tuple[str, ...], str] = {}
        self._of_rows: set[str] = set()  # what WHERE compares; what HAVING compares is made by the grouping
        self._named: list[Item] = []
        self.keys = select_keys(select)

    def plan(self) -> Plan | Refused:
        width = known_width(self.select) if self.names is None else len(self.names)
        found = conjuncts(self.select)
        seek = [c for c in found if is_one_value(c, self.version.variables)]
        for conjunct in seek:
            self._seek(conjunct)
        for conjunct in found:
            if conjunct not in seek:
                self._condition(conjunct)
        self._through_clauses(tuple(d for d in self.dimensions if d.variable), bool(self.conditions))
        cut = self._cut()
        if self.refusals:
            return Refused(tuple(self.refusals))
        total_order(self.edits, self.select, [d.column for d in self.dimensions if d.variable], width)
        return Plan(
            key=self.version.key,
            materialize_sql=self.edits.apply(self.select.whole),
            dimensions=tuple(self.dimensions),
            conditions=tuple(self.conditions),
            cut=cut,
            width=width,
            notes=self._notes(),
        )

    def _refuse(self, code: str, span: Span, what: str = "") -> None:
        self.refusals.append(refusal(code, self.source.line(span), what))

    def _seek(self, conjunct: Conjunct) -> None:
        assert conjunct.comparison is not None
        expression, operator, name = conjunct.comparison
        self._check_place(conjunct)
        column = self._column(expression, operator, name)
        self._of_rows.add(column)
        known = next(d for d in self.dimensions if d.column == column)
        if known.variable != name:
            # One expression equal to two variables: the second is a condition on the same column.
            self._keep(conjunct, [expression])
        self.edits.replace(conjunct.span, "1")

    def _condition(self, conjunct: Conjunct) -> None:
        self._check_place(conjunct)
        lifted = list(liftable(self.source, conjunct.span))
        for part in lifted:
            column = self._column(part, "", None)
            if conjunct.clause != "HAVING":
                self._of_rows.add(column)
            self._check_commutes(conjunct, part)
        self._keep(conjunct, lifted)
        self.edits.replace(conjunct.span, "1")

    def _keep(self, conjunct: Conjunct, lifted: list[Span]) -> None:
        comparison = None
        if conjunct.comparison is not None and self.source.same(conjunct.comparison[0]) in self._columns:
            operand, operator, name = conjunct.comparison
            comparison = (self._columns[self.source.same(operand)], operator, name)
        self.conditions.append(
            Condition(
                sql=lift(self.source, conjunct.span, self._columns, lifted),
                written=self.source.text(conjunct.span),
                variables=conjunct.variables,
                columns=tuple(dict.fromkeys(self._columns[self.source.same(part)] for part in lifted)),
                comparison=comparison,
                line=self.source.line(conjunct.span),
            )
        )

    def _column(self, expression: Span, operator: str, variable: str | None) -> str:
        """The hidden column that holds an expression: one for each text."""
        known = self._columns.get(self.source.same(expression))
        if known is not None:
            return known
        column = f"__d{len(self.dimensions)}"
        self._columns[self.source.same(expression)] = column
        declared = self.version.variables[variable].type.text if variable else None
        line = self.source.line(expression)
        self.dimensions.append(
            Dimension(column, self.source.text(expression), operator, variable, declared, line)
        )
        return column

    def _check_place(self, conjunct: Conjunct) -> None:
        source, span = self.source, conjunct.span
        if source.has_word(span, "SELECT"):
            self._refuse("placeholder_in_subquery", span)
        from_ = self.select.body("FROM")
        if conjunct.clause == "PREWHERE" and from_ and source.has_word(from_, "FINAL"):
            self._refuse("prewhere_final", span)
        if conjunct.clause == "HAVING" and not self.keys.aggregated:
            self._refuse("having", span)
        if any((call.function or "").lower() in ("arrayjoin", "unnest") for call in calls(source, span)):
            self._refuse("array_join", span)
        if any(source.is_op(i, "->") for i in span):
            self._refuse("lambda", span)
        if source.has_word(self.select.clauses[conjunct.clause], "XOR"):
            self._refuse("xor", span)
        if any(term.over for term in calls(source, span)):
            self._refuse("window", span)

    def _check_commutes(self, conjunct: Conjunct, part: Span) -> None:
        """A condition may wait until rows are read if no clause above it mixes rows that it tells apart."""
        select, keys = self.select, self.keys
        if self._decided(keys.group, part) and not keys.group.decide(part):
            return  # a function of what is equal to a variable: one value in all of a request's rows
        if keys.windows:
            self._refuse("window", conjunct.span)
        if keys.aggregated and conjunct.clause != "HAVING" and not keys.group.decide(part):
            self._refuse("not_a_key", conjunct.span, self.source.text(part))
        if select.distinct and not keys.distinct.decide(part):
            self._refuse("distinct", conjunct.span, self.source.text(part))
        if select.limit_by and not keys.limit_by.decide(part):
            self._refuse("limit_by", conjunct.span, self.source.text(part))

    def _decided(self, keys: Decided, part: Span) -> bool:
        sought = {
            text
            for text, column in self._columns.items()
            for d in self.dimensions
            if d.column == column and d.variable
        }
        return Decided(self.source, keys.texts | sought).decide(part)

    def _through_clauses(self, seek: tuple[Dimension, ...], filtered: bool) -> None:
        select, source, edits = self.select, self.source, self.edits
        if self.keys.aggregated and "GROUP BY" not in select.clauses:
            self._refuse("global_aggregate", select.item_list)
            return
        if seek:
            self._partition_windows(seek)  # first: it may name the last item, behind which the columns go
        columns = "".join(f", ({d.expression}) AS {d.column}" for d in self.dimensions)
        edits.insert_after(select.item_list, columns)
        carried = "".join(f", {d.column}" for d in self.dimensions if d.column in self._of_rows)
        group = select.body("GROUP BY")
        if group is not None and source.word(group.first) != "ALL":
            if source.text(source.unwrap(group)) == "":
                self._refuse("group_by_nothing", group)
            edits.insert_after(group, carried)
        if select.distinct_on:
            edits.insert_after(select.distinct_on, "".join(f", {d.column}" for d in seek))
        if select.limit_by:
            edits.insert_after(select.limit_by.by, "".join(f", {d.column}" for d in seek))
        if orders_by_all(select) and select.clauses["ORDER BY"].last - select.clauses["ORDER BY"].first > 1:
            self._refuse("order_by_all", select.clauses["ORDER BY"])

    def _partition_windows(self, seek: tuple[Dimension, ...]) -> None:
        source, columns = self.source, ", ".join(d.column for d in seek)
        for span in self.keys.windows:
            inside = Span(span.first + 1, span.last - 1)
            at = next((i for i in source.shallow(inside) if source.word(i) == "PARTITION"), None)
            if at is not None:
                self.edits.insert_after(Span(at, at + 2), f" {columns},")
                self._keep_name(span)
            elif not inside or source.word(inside.first) in ("ORDER", "ROWS", "RANGE", "GROUPS"):
                self.edits.insert_after(Span(span.first, span.first + 1), f"PARTITION BY {columns} ")
                self._keep_name(span)
            else:
                self._refuse("window_name", span)

    def _keep_name(self, edited: Span) -> None:
        """An item without an alias is named by its text, which has just been edited."""
        if self.names is None or len(self.names) != len(self.select.items):
            return
        for item, name in zip(self.select.items, self.names, strict=True):
            if edited.first in item.whole and item.alias is None and item not in self._named:
                self._named.append(item)
                self.edits.insert_after(item.whole, f" AS {quoted(name)}")

    def _cut(self) -> Cut:
        """LIMIT for each value of the dimensions where that is all; else it cuts what a request's filter
        leaves.
        """
        select = self.select
        if select.limit is None:
            return Cut()
        limit, offset = self._count(select.limit.limit), self._count(select.limit.offset)
        seek = [d.column for d in self.dimensions if d.variable]
        if (
            isinstance(limit, int)
            and isinstance(offset, int | None)
            and seek
            and not self.conditions
            and not select.limit_by
        ):
            self.edits.replace(select.limit.whole, f"LIMIT {offset or 0}, {limit} BY {', '.join(seek)}")
            return Cut()
        self.edits.replace(select.limit.whole, "")
        return Cut(limit, 0 if offset is None else offset)

    def _count(self, span: Span | None) -> int | str | None:
        if span is None:
            return None
        token = self.source.tokens[span.first]
        if span.last - span.first == 1:
            if token.kind is Kind.NUMBER and token.text.isdecimal():
                return int(token.text)
            if token.kind is Kind.PLACEHOLDER:
                name = read_placeholder(token).name
                variable = self.version.variables[name]
                if variable.type.name.startswith("UInt") and not variable.optional:
                    return name
        self._refuse("limit", span)
        return None

    def _notes(self) -> tuple[str, ...]:
        source = self.source
        names = {
            source.tokens[call.span.first].text
            for item in self.select.items
            for call in aggregates(source, item.expression)
            if call.function and not reproducible(call.function)
        }
        return tuple(
            f"{name} may answer differently from run to run in ClickHouse itself" for name in sorted(names)
        )
