"""Aggregates below a cut: how each is stored, and what merges it back into the very answer of one pass."""

from __future__ import annotations

from endpoints.query.plan.functions import aggregate, merges_exactly
from endpoints.query.plan.model import State
from endpoints.query.plan.select import Source, Span
from endpoints.query.plan.terms import Term

# Values that merge as they are: a count of counts is their sum. With -If only where "nothing" is 0: the
# minimum of a minIf that matched nothing would be its 0.
_PLAIN = {
    ("count", ()): "sum",
    ("count", ("if",)): "sum",
    ("sum", ()): "sum",
    ("sum", ("if",)): "sum",
    ("min", ()): "min",
    ("max", ()): "max",
}


class NotMergeable(Exception):
    """The aggregate's answer cannot be put together from those of parts."""


def state_of(source: Source, term: Term, column: str, type_text: str | None) -> State:
    """How to store the aggregate call `term` as `column`. `type_text` is its state's type, once described."""
    assert term.function is not None
    written = source.text(term.head)
    if term.head.last != term.arguments[-1].last + 1:
        raise NotMergeable  # FILTER, RESPECT NULLS
    arguments = term.arguments[-1]
    found = aggregate(term.function)
    assert found is not None
    if source.word(arguments.first) == "DISTINCT":
        if found != ("count", ()) or len(term.arguments) > 1:
            raise NotMergeable
        counted = source.text(Span(arguments.first + 1, arguments.last))
        return State(
            column, written, f"uniqExactState({counted})", f"uniqExactMerge({column})", True, type_text
        )
    if found in _PLAIN and len(term.arguments) == 1:
        return State(column, written, written, f"{_PLAIN[found]}({column})", False)
    if not merges_exactly(term.function):
        raise NotMergeable
    parameters = f"({source.text(term.arguments[0])})" if len(term.arguments) > 1 else ""
    name = term.function
    stored = f"{name}State{parameters}({source.text(arguments)})"
    return State(column, written, stored, f"{name}Merge{parameters}({column})", True, type_text)
