"""Aggregates below a cut: how each is stored, and what merges it back into the answer of one pass."""

from __future__ import annotations

from dataclasses import dataclass

from endpoints.query.plan.functions import Merging, aggregate, merging
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
# ClickHouse reads the second argument of these as a parameter.
_SEPARATED = {"groupconcat", "group_concat", "string_agg"}
_SEPARATED = {"groupconcat", "group_concat", "string_agg"}
"""ClickHouse reads the second argument of these as a parameter."""

_STATES = {"state", "simplestate", "merge"}
"""Combinators that take or give states. Of these only -Merge at the end has a state of its own."""


class NotMergeable(Exception):
    """The aggregate's answer cannot be put together from those of parts."""


def state_of(source: Source, term: Term, column: str, type_text: str | None) -> State:
    """How to store the aggregate call `term` as `column`. `type_text` is its state's type, once described.

    Raises NotMergeable.
    """
    assert term.function is not None
    if merging(term.function) in (Merging.WRONG, Merging.STATELESS):
        raise NotMergeable
    call, written = _read(source, term), source.text(term.head)
    if (call.base, call.combinators) in _PLAIN and not call.parameters:
        merges = f"{_PLAIN[call.base, call.combinators]}({column})"
        return State(column, term.function, written, written, merges, False)
    merge = call.name if call.combinators[-1:] == ("merge",) else f"{call.name}Merge"
    stored = f"{call.name}State{call.parameters}({call.arguments})"
    return State(
        column, term.function, written, stored, f"{merge}{call.parameters}({column})", True, type_text
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """An aggregate call as ClickHouse reads it: without DISTINCT, FILTER and separators."""

    name: str
    base: str
    combinators: tuple[str, ...]
    parameters: str
    arguments: str


def _read(source: Source, term: Term) -> _Call:
    assert term.function is not None
    found = aggregate(term.function)
    assert found is not None
    name, (base, combinators), inside = term.function, found, term.arguments[-1]
    distinct, filtered = source.word(inside.first) == "DISTINCT", _filter(source, term)
    if not _STATES.isdisjoint(combinators[:-1] if combinators[-1:] == ("merge",) else combinators):
        raise NotMergeable
    parameters = f"({source.text(term.arguments[0])})" if len(term.arguments) > 1 else ""
    parts = source.split(inside)
    if not (distinct or filtered):
        if base in _SEPARATED and len(parts) == 2:
            return _Call("groupConcat", base, (), f"({source.text(parts[1])})", source.text(parts[0]))
        return _Call(name, base, combinators, parameters, source.text(inside))
    if combinators or (distinct and filtered) or base in _SEPARATED:
        raise NotMergeable
    if filtered:
        arguments = ", ".join(source.text(part) for part in parts if part)
        arguments = f"{arguments}, {filtered}" if arguments else filtered
        return _Call(f"{name}If", base, ("if",), parameters, arguments)
    name = "uniqExact" if base == "count" else f"{name}Distinct"
    arguments = source.text(Span(inside.first + 1, inside.last))
    return _Call(name, base, ("distinct",), parameters, arguments)


def _filter(source: Source, term: Term) -> str:
    """The condition of FILTER (WHERE …); RESPECT NULLS and the like have no state of that name."""
    index = term.arguments[-1].last + 1
    if index == term.head.last:
        return ""
    opening = index + 1
    if source.word(index) != "FILTER" or source.pair.get(opening) != term.head.last - 1:
        raise NotMergeable
    return source.text(Span(opening + 2, term.head.last - 1))
