"""Carrying dimensions: from a condition up through every clause of its SELECT, as a hidden column."""

from __future__ import annotations

from endpoints.definition.model import Version
from endpoints.query.lexer import Kind
from endpoints.query.plan.conditions import Conjunct, conjuncts, is_one_value
from endpoints.query.plan.dimensions import Dimensions
from endpoints.query.plan.edits import Edits, quoted
from endpoints.query.plan.keys import Decided, select_keys
from endpoints.query.plan.model import Cut, Plan, Slicing
from endpoints.query.plan.order import known_width, orders_by_all, total_order
from endpoints.query.plan.select import Item, Select, Span
from endpoints.query.plan.slices import is_slice, sliced_by, slicing
from endpoints.query.variables import read_placeholder

# Where a variable stands for something else than a condition on rows or groups.
_ELSEWHERE = ("WITH", "SELECT", "FROM", "GROUP BY", "WINDOW", "QUALIFY", "ORDER BY", "LIMIT BY")


def carry(
    version: Version, select: Select, names: tuple[str, ...] | None, first: tuple[str, ...] = ()
) -> Plan | None:
    """The plan of one SELECT whose dimensions can be carried to its result; None if some clause stops them.

    `names` are the result's columns, once they have been described. Dimensions of the variables `first` come
    before others, in that order.
    """
    source = select.source
    if any(source.placeholders(select.body(name) or Span(0, 0)) for name in _ELSEWHERE):
        return None
    return _Carrier(version, select, names).plan(first)


class _Carrier:
    """One plan in the making: its dimensions, and the edits that carry them."""

    def __init__(self, version: Version, select: Select, names: tuple[str, ...] | None) -> None:
        self.version, self.select, self.source, self.names = version, select, select.source, names
        self.edits = Edits(self.source)
        self.dimensions = Dimensions(version, select)
        self.stopped = False
        self.keys = select_keys(select)
        self._of_rows: set[str] = set()  # what WHERE compares; what HAVING compares is made by the grouping
        self._named: list[Item] = []

    def plan(self, first: tuple[str, ...]) -> Plan | None:
        width = known_width(self.select) if self.names is None else len(self.names)
        found = conjuncts(self.select)
        seek = [c for c in found if is_one_value(c, self.version.variables)]
        for conjunct in sorted(seek, key=lambda c: _rank(c, first)):
            self._seek(conjunct)
        for conjunct in found:
            if conjunct not in seek:
                self._condition(conjunct)
        self._through_clauses()
        cut = self._cut()
        slicing = self._slicing()
        if self.stopped or self.dimensions.refusals:
            return None
        total_order(self.edits, self.select, self.dimensions.seek, width)
        return Plan(
            key=self.version.key,
            materialize_sql=self.edits.apply(self.select.whole),
            dimensions=tuple(self.dimensions.found),
            conditions=tuple(self.dimensions.conditions),
            cut=cut,
            width=width,
            distinct=self.select.distinct,
            slicing=slicing,
        )

    def _slicing(self) -> Slicing | None:
        """How the slices of the SELECT's rows are put together, if it is sliced."""
        partitions = sliced_by(self.version)
        if partitions is None or not self.dimensions.sliced:
            return None
        found = slicing(self.select, self.keys, self.dimensions.sought, partitions)
        self.stopped = self.stopped or found is None
        return found

    def _seek(self, conjunct: Conjunct) -> None:
        self.dimensions.check_place(conjunct)
        self._of_rows.add(self.dimensions.add_seek(conjunct))
        self.edits.replace(conjunct.span, "1")

    def _condition(self, conjunct: Conjunct) -> None:
        if is_slice(self.select, conjunct):
            self.dimensions.add_slice(conjunct)
            return
        self.dimensions.check_place(conjunct)
        for part, column in self.dimensions.add_condition(conjunct):
            if conjunct.clause != "HAVING":
                self._of_rows.add(column)
            self.stopped = self.stopped or not self._commutes(conjunct, part)
        self.edits.replace(conjunct.span, "1")

    def _commutes(self, conjunct: Conjunct, part: Span) -> bool:
        """A condition may wait until rows are read if no clause above it mixes rows that it tells apart."""
        select, keys = self.select, self.keys
        if Decided(self.source, self.dimensions.sought).decide(part):
            return True  # a function of what is equal to a variable: one value in all of a request's rows
        grouped = keys.aggregated and conjunct.clause != "HAVING"
        return (
            not keys.windows
            and (not grouped or self._decided(keys.group, part))
            and (not select.distinct or self._decided(keys.distinct, part))
            and (select.limit_by is None or self._decided(keys.limit_by, part))
        )

    def _decided(self, keys: Decided, part: Span) -> bool:
        return Decided(self.source, keys.texts | self.dimensions.sought).decide(part)

    def _through_clauses(self) -> None:
        select, source, edits = self.select, self.source, self.edits
        seek, found = self.dimensions.seek, self.dimensions.found
        if self.keys.aggregated and "GROUP BY" not in select.clauses:
            self.stopped = True  # one row even where nothing matches: no row of any key says so
            return
        if seek:
            self._partition_windows(
                ", ".join(seek)
            )  # first: it may name the last item, behind which the columns go
        columns = "".join(f", ({d.stored}) AS {d.column}" for d in found)
        edits.insert_after(select.item_list, columns)
        carried = "".join(f", {d.column}" for d in found if d.column in self._of_rows)
        group = select.body("GROUP BY")
        if group is not None and source.word(group.first) != "ALL":
            if source.text(source.unwrap(group)) == "":
                self.stopped = True
            edits.insert_after(group, carried)
        if select.distinct_on:
            edits.insert_after(select.distinct_on, "".join(f", {column}" for column in seek))
        if select.limit_by:
            edits.insert_after(select.limit_by.by, "".join(f", {column}" for column in seek))
        if orders_by_all(select) and select.clauses["ORDER BY"].last - select.clauses["ORDER BY"].first > 1:
            self.stopped = True

    def _partition_windows(self, columns: str) -> None:
        source = self.source
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
                self.stopped = True  # it builds on another window

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
        seek, numbers = self.dimensions.seek, isinstance(limit, int) and isinstance(offset, int | None)
        if numbers and seek and not self.dimensions.conditions and not select.limit_by:
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
        self.stopped = True
        return None


def _rank(conjunct: Conjunct, first: tuple[str, ...]) -> int:
    assert conjunct.comparison is not None
    variable = conjunct.comparison[2]
    return first.index(variable) if variable in first else len(first)
