"""Primaries of an expression: names and calls. The units in which a plan lifts text out of a condition.

A primary binds tighter than every operator, so replacing one by a column of the same value never changes
how the rest is read: no knowledge of precedence is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from endpoints.query.lexer import Kind
from endpoints.query.plan.functions import aggregate
from endpoints.query.plan.select import KEYWORDS, UNITS, Source, Span

# Between operands of `=` these keep one side whole: everything else at depth 0 makes it another expression.
_ARITHMETIC = ("+", "-", "*", "/", "%", "||", ".", "(", "[")


@dataclass(frozen=True, slots=True)
class Term:
    """A name (`a`, `t.a`, `a.1`) or a call (`f(x)`, `quantile(0.9)(x)`, `sum(x) OVER w`), with its
    subscripts.

    `head` ends before the subscripts. `arguments` are the insides of a call's brackets.
    """

    span: Span
    head: Span
    function: str | None
    arguments: tuple[Span, ...]
    over: bool


def terms(source: Source, span: Span) -> Iterator[Term]:
    """The outermost terms of an expression, left to right; brackets that are no call's are looked into."""
    if source.word(span.first) in ("SELECT", "WITH"):
        return  # a subquery has a scope of its own
    index = span.first
    while index < span.last:
        token = source.tokens[index]
        if source.is_op(index, "(", "["):
            yield from terms(source, Span(index + 1, source.pair[index]))
            index = source.pair[index] + 1
        elif source.is_op(index, "::") or token.word == "AS":
            index = _type_end(source, index + 1)
        elif token.kind is Kind.QUOTED or (token.word and not _is_keyword(source, index)):
            term = _term(source, index, span.last)
            yield term
            index = term.span.last
        else:
            index += 1


def _is_keyword(source: Source, index: int) -> bool:
    word = source.word(index)
    if word in UNITS and _after_interval(source, index):
        return True
    if word in _FRAME and _in_frame(source, index):
        return True
    return word in KEYWORDS and not (word in ("LEFT", "RIGHT", "ANY", "MOD") and source.is_op(index + 1, "("))


_FRAME = frozenset("PARTITION ROWS RANGE GROUPS UNBOUNDED CURRENT ROW PRECEDING FOLLOWING".split())  # noqa: SIM905
_FRAME_NEIGHBOURS = _FRAME | {"BY", "BETWEEN"}


def _in_frame(source: Source, index: int) -> bool:
    """A word of a window's definition: beside another one, or beside a number of rows."""
    after = source.tokens[index + 1] if index + 1 < len(source.tokens) else None
    before = source.tokens[index - 1] if index else None
    counts = (Kind.NUMBER, Kind.PLACEHOLDER)
    return (after is not None and (after.word in _FRAME_NEIGHBOURS or after.kind in counts)) or (
        before is not None and (before.word in _FRAME or before.kind in counts)
    )


def _after_interval(source: Source, index: int) -> bool:
    """The unit of INTERVAL 1 DAY, INTERVAL (1 + 1) DAY: `day` alone may be a column."""
    before = index - 1
    if source.is_op(before, ")"):
        before = next(first for first, last in source.pair.items() if last == before)
    return "INTERVAL" in (source.word(before - 1), source.word(before - 2))


def _type_end(source: Source, index: int) -> int:
    return source.pair[index + 1] + 1 if source.is_op(index + 1, "(") else index + 1


def _term(source: Source, first: int, last: int) -> Term:
    index = first + 1
    while (
        index + 1 < last
        and source.is_op(index, ".")
        and source.tokens[index + 1].kind
        in (
            Kind.WORD,
            Kind.QUOTED,
            Kind.NUMBER,
        )
    ):
        index += 2
    arguments: list[Span] = []
    while index < last and source.is_op(index, "(") and len(arguments) < 2:
        arguments.append(Span(index + 1, source.pair[index]))
        index = source.pair[index] + 1
    function = source.tokens[first].name if arguments else None
    over = False
    if arguments:
        while index < last and source.word(index) in ("FILTER", "RESPECT", "IGNORE", "OVER"):
            over = over or source.word(index) == "OVER"
            index += 2  # RESPECT NULLS, OVER w
            if source.is_op(index - 1, "("):
                index = source.pair[index - 1] + 1
    head = Span(first, index)
    while index < last:
        if source.is_op(index, "["):
            index = source.pair[index] + 1
        elif source.is_op(index, ".") and index + 1 < last:
            index += 2
        elif source.tokens[index].kind is Kind.NUMBER and source.tokens[index].text.startswith("."):
            index += 1
        else:
            break
    return Term(Span(first, index), head, function, tuple(arguments), over)


def calls(source: Source, span: Span) -> Iterator[Term]:
    """Every call in the span, at any depth, but not in subqueries."""
    for term in terms(source, span):
        if term.function is not None:
            yield term
        for inside in insides(source, term):
            yield from calls(source, inside)


def insides(source: Source, term: Term) -> Iterator[Span]:
    """Everything bracketed within a term: arguments, window definitions, subscripts."""
    index = term.span.first
    while index < term.span.last:
        if source.is_op(index, "(", "["):
            yield Span(index + 1, source.pair[index])
            index = source.pair[index]
        index += 1


def aggregates(source: Source, span: Span) -> Iterator[Term]:
    """The aggregate calls of this SELECT level in the span (not windows', not those of subqueries)."""
    for term in terms(source, span):
        if term.function is not None and not term.over and aggregate(term.function):
            yield term
            continue
        for inside in insides(source, term):
            yield from aggregates(source, inside)


def reads_rows(source: Source, span: Span) -> bool:
    """The expression names something that is not a function: it may differ from row to row."""
    for term in terms(source, span):
        if term.function is None or any(reads_rows(source, inside) for inside in insides(source, term)):
            return True
        if aggregate(term.function):
            return True
    return False


def liftable(source: Source, span: Span) -> Iterator[Span]:
    """The largest terms without placeholders, to be stored as columns; the rest of the text stays as it
    is.
    """
    for term in terms(source, span):
        if not source.waits(term.span):
            if reads_rows(source, term.span):
                yield term.span
        elif not source.waits(term.head) and reads_rows(source, term.head):
            yield term.head
            yield from _lift_inside(source, term, Span(term.head.last, term.span.last))
        else:
            yield from _lift_inside(source, term, term.span)


def _lift_inside(source: Source, term: Term, within: Span) -> Iterator[Span]:
    for inside in insides(source, term):
        if inside.first in within:
            yield from liftable(source, inside)


def is_operand(source: Source, span: Span) -> bool:
    """The span can stand beside `=` without brackets and mean the same: names, literals, arithmetic."""
    if not span:
        return False
    for index in source.shallow(span):
        token = source.tokens[index]
        if token.kind is Kind.OPERATOR and token.text not in _ARITHMETIC:
            return False
        if token.kind is Kind.WORD and _is_keyword(source, index) and token.word not in ("INTERVAL", *UNITS):
            return False
    return True


def names_a_part(source: Source, span: Span) -> bool:
    """An alias is made within the expression, which a plan would take away with it. CAST(x AS T) makes
    none.
    """
    words = [source.word(index) for index in span]
    return words.count("AS") > words.count("CAST") + words.count("TRY_CAST")
