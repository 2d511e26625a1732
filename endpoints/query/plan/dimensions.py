"""Dimensions in the making: what the conjuncts that hold variables ask a plan to store."""

from __future__ import annotations

from endpoints.definition.model import Version
from endpoints.query.plan.buckets import answers, bucket_sql
from endpoints.query.plan.conditions import Conjunct
from endpoints.query.plan.edits import lift
from endpoints.query.plan.model import Condition, Dimension, Refusal
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import Select, Span, reads_tables
from endpoints.query.plan.slices import slice_condition
from endpoints.query.plan.terms import calls, liftable, names_a_part, reads_rows


class Dimensions:
    """The hidden columns that a version's conditions need, one for each text, and why some cannot be had."""

    def __init__(self, version: Version, select: Select) -> None:
        self._version, self._select, self._source = version, select, select.source
        self.found: list[Dimension] = []
        self.conditions: list[Condition] = []
        self.refusals: list[Refusal] = []
        self.sliced = False
        self._columns: dict[tuple[str, ...], str] = {}

    @property
    def seek(self) -> tuple[str, ...]:
        """The columns that are equal to a variable."""
        return tuple(d.column for d in self.found if d.variable is not None)

    @property
    def sought(self) -> frozenset[tuple[str, ...]]:
        """The texts that are equal to a variable: one value in all of a request's rows."""
        seek = set(self.seek)
        return frozenset(text for text, column in self._columns.items() if column in seek)

    def add_seek(self, conjunct: Conjunct) -> str:
        """A column for `expr = {v}`."""
        assert conjunct.comparison is not None
        expression, operator, name = conjunct.comparison
        column = self._column(expression, operator, name)
        known = next(d for d in self.found if d.column == column)
        if known.variable != name:
            # One expression equal to two variables: the second is a condition on the same column.
            self._add_condition(conjunct, [expression])
        return column

    def add_condition(self, conjunct: Conjunct) -> list[tuple[Span, str]]:
        """Columns for all that a condition reads: the lifted parts of its text with their columns."""
        lifted = self._lifted(conjunct)
        if bucket := self._bucket(conjunct, lifted):
            return [(lifted[0], self._add_bucketed(conjunct, lifted[0], bucket))]
        found = [(part, self._column(part, "", None)) for part in lifted]
        self._add_condition(conjunct, lifted)
        return found

    def add_slice(self, conjunct: Conjunct) -> None:
        """The slice of a version with partitions: no column, but a condition to all that asks for them."""
        self.conditions.append(slice_condition(self._select, conjunct))
        self.sliced = True

    def check_place(self, conjunct: Conjunct) -> None:
        """Refuse what cannot wait until rows are read, whatever stands above it."""
        source, span = self._source, conjunct.span
        from_ = self._select.body("FROM")
        called = {(call.function or "").lower() for call in calls(source, span)}
        for code, found in (
            ("placeholder_in_subquery", source.has_word(span, "SELECT") and reads_tables(source.text(span))),
            ("prewhere_final", conjunct.clause == "PREWHERE" and from_ and source.has_word(from_, "FINAL")),
            ("array_join", called & {"arrayjoin", "unnest"}),
            ("lambda", any(source.is_op(i, "->") for i in span)),
            ("xor", source.has_word(self._select.clauses[conjunct.clause], "XOR")),
            ("window", any(term.over for term in calls(source, span))),
            ("alias", names_a_part(source, span)),
        ):
            if found:
                self.refusals.append(refusal(code, source.line(span)))

    def _lifted(self, conjunct: Conjunct) -> list[Span]:
        """The parts of a condition that are stored: one side of a comparison as a whole, else all its
        terms.
        """
        if conjunct.comparison is not None and reads_rows(self._source, conjunct.comparison[0]):
            return [conjunct.comparison[0]]
        return list(liftable(self._source, conjunct.span))

    def _bucket(self, conjunct: Conjunct, lifted: list[Span]) -> str | None:
        """The bucket that answers `expr >= {v}` or `expr < {v}`; others need what they read."""
        if conjunct.comparison is None or lifted != [conjunct.comparison[0]]:
            return None
        _, operator, name = conjunct.comparison
        variable = self._version.variables[name]
        return variable.bucket if answers(operator, variable.type) else None

    def _add_bucketed(self, conjunct: Conjunct, expression: Span, bucket: str) -> str:
        """A condition on a column of buckets, which the two ends of a range share."""
        assert conjunct.comparison is not None
        source, (_, operator, name) = self._source, conjunct.comparison
        written, same = source.text(expression), source.same(expression)
        stored = bucket_sql(bucket, self._version.variables[name].type, written)
        known = next((d for d in self.found if d.stored == stored), None)
        if known is None:
            known = Dimension(
                f"__d{len(self.found)}", written, "", None, None, source.line(expression), stored
            )
            self.found.append(known)
        self.conditions.append(
            Condition(
                sql=lift(source, conjunct.span, {same: known.column}, [expression]),
                written=source.text(conjunct.span),
                variables=conjunct.variables,
                columns=(known.column,),
                comparison=(known.column, operator, name),
                line=source.line(conjunct.span),
                bucket=bucket,
            )
        )
        return known.column

    def _add_condition(self, conjunct: Conjunct, lifted: list[Span]) -> None:
        source, comparison = self._source, None
        if conjunct.comparison is not None and source.same(conjunct.comparison[0]) in self._columns:
            operand, operator, name = conjunct.comparison
            comparison = (self._columns[source.same(operand)], operator, name)
        self.conditions.append(
            Condition(
                sql=lift(source, conjunct.span, self._columns, lifted),
                written=source.text(conjunct.span),
                variables=conjunct.variables,
                columns=tuple(dict.fromkeys(self._columns[source.same(part)] for part in lifted)),
                comparison=comparison,
                line=source.line(conjunct.span),
            )
        )

    def _column(self, expression: Span, operator: str, variable: str | None) -> str:
        text = self._source.same(expression)
        if text not in self._columns:
            column = self._columns[text] = f"__d{len(self.found)}"
            declared = self._version.variables[variable].type.text if variable else None
            written, line = self._source.text(expression), self._source.line(expression)
            self.found.append(Dimension(column, written, operator, variable, declared, line, written))
        return self._columns[text]
