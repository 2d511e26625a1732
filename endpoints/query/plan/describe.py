"""A plan's predicates, one by one, as `endpoints plan` lists them and as samples of values need them.

For people and programs to read: nothing is decided by what is found here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from endpoints.query.lexer import Kind
from endpoints.query.plan.functions import reproducible
from endpoints.query.plan.model import Plan
from endpoints.query.plan.order import known_width
from endpoints.query.plan.select import Item, Source, Span, Unreadable, parse_select
from endpoints.query.variables import read_placeholder

_COMPARISONS = frozenset({"=", "==", "!=", "<>", "<=>", "<", "<=", ">", ">="})
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SPELLED = {"==": "=", "<>": "!="}
_OPPOSITE = {"=": "!=", "!=": "="}
_WORDS = ("IN", "LIKE", "ILIKE", "REGEXP", "BETWEEN", "IS")


@dataclass(frozen=True, slots=True)
class Predicate:
    """`expression operator variable`: what a variable is compared with, in the query's own words.

    `operator` is ClickHouse's (`>=`, `NOT IN`), or the name of the function that compares (`has`).
    """

    variable: str
    expression: str
    operator: str


def predicates(plan: Plan) -> tuple[Predicate, ...]:
    """Every comparison of a stored expression with a variable, those that seek first. Each is there once.

    An OR gives one for each of its parts, a range one for each of its ends.
    """
    plans = (plan, *plan.parts)
    seek = (dimension for one in plans for dimension in one.seek)
    found = [Predicate(d.variable, d.expression, d.operator) for d in seek if d.variable is not None]
    for condition in (condition for one in plans for condition in one.conditions):
        source = Source(condition.written)
        found += _parts(source, Span(0, len(source.tokens)), negated=False)
    return tuple(dict.fromkeys(found))


def _parts(source: Source, span: Span, negated: bool) -> Iterator[Predicate]:
    """The comparisons within a boolean expression."""
    span = source.unwrap(span)
    pieces = _split(source, span)
    if len(pieces) > 1:
        for piece in pieces:
            yield from _parts(source, piece, negated)
    elif span and source.word(span.first) == "NOT":
        yield from _parts(source, Span(span.first + 1, span.last), not negated)
    else:
        yield from _comparison(source, span, negated)


def _split(source: Source, span: Span) -> list[Span]:
    """The operands of AND and OR; the AND of BETWEEN joins its bounds."""
    pieces, start, between = [], span.first, False
    for index in source.shallow(span):
        word = source.word(index)
        if word == "BETWEEN":
            between = True
        elif word == "AND" and between:
            between = False
        elif word in ("AND", "OR"):
            pieces.append(Span(start, index))
            start = index + 1
    return [*pieces, Span(start, span.last)]


def _comparison(source: Source, span: Span, negated: bool) -> Iterator[Predicate]:
    held = source.placeholders(span)
    names = dict.fromkeys(read_placeholder(source.tokens[index]).name for index in held)
    operator, expression = _read(source, span, held)
    if expression is None:
        return
    operator = _negation(operator) if negated else operator
    yield from (Predicate(name, expression, operator) for name in names)


def _negation(operator: str) -> str:
    if operator in _OPPOSITE:
        return _OPPOSITE[operator]
    return operator.removeprefix("NOT ") if operator.startswith("NOT ") else f"NOT {operator}"


def _read(source: Source, span: Span, held: tuple[int, ...]) -> tuple[str, str | None]:
    """(operator, the text beside the placeholders); no text where nothing but placeholders is compared."""
    at = next((i for i in source.shallow(span) if i > span.first and _is_operator(source, i)), None)
    if at is None:
        return _called(source, span)
    first = at - 1 if source.word(at - 1) == "NOT" else at
    left, right = Span(span.first, first), Span(at + 1, span.last)
    operator = source.text(Span(first, at + 1)).upper()
    operator = _SPELLED.get(operator, operator)
    if not source.placeholders(left):
        return operator, _expression(source, left)
    if not source.placeholders(right):
        return _FLIPPED.get(operator, operator), _expression(source, right)
    return operator, source.text(span) if _names_something(source, span) else None


def _called(source: Source, span: Span) -> tuple[str, str | None]:
    """A function that holds the placeholders: its name, and those of its arguments that hold none."""
    first, opening = span.first, span.first + 1
    if not (source.tokens[first].name and source.is_op(opening, "(")):
        return "", source.text(span) if _names_something(source, span) else None
    arguments = source.split(Span(opening + 1, source.pair[opening]))
    plain = [a for a in arguments if not source.placeholders(a) and _names_something(source, a)]
    if plain:
        return source.tokens[first].text, ", ".join(map(source.text, plain))
    return source.tokens[first].text, source.text(span) if _names_something(source, span) else None


def _is_operator(source: Source, index: int) -> bool:
    token = source.tokens[index]
    if token.kind is Kind.OPERATOR:
        return token.text in _COMPARISONS
    return token.word in _WORDS


def _expression(source: Source, span: Span) -> str | None:
    inner = source.unwrap(span)
    written = span if len(source.split(inner)) > 1 else inner  # a tuple keeps its brackets
    return source.text(written) if _names_something(source, span) else None


def _names_something(source: Source, span: Span) -> bool:
    """Something beside literals, placeholders and functions' names: columns."""
    return any(
        source.tokens[i].kind in (Kind.WORD, Kind.QUOTED)
        and not source.is_op(i + 1, "(")
        and not _is_operator(source, i)
        and source.word(i) not in ("NOT", "AND", "OR", "NULL", "TRUE", "FALSE")
        for i in span
    )


@dataclass(frozen=True, slots=True)
class Changing:
    """Aggregates that ClickHouse itself does not answer the same way twice, by name.

    `floats` are those, as written, of which only the last bits may change. `columns` are the places of the
    result's columns that hold either; None where they decide more than the values of those columns: which
    rows there are, or their order. `shown`: floats stand there as they are, neither rounded nor compared.
    """

    functions: tuple[str, ...]
    columns: frozenset[int] | None
    floats: tuple[str, ...] = ()
    shown: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each."""
        whole = tuple(
            f"{name} may answer differently from run to run in ClickHouse itself" for name in self.functions
        )
        return whole + tuple(f"{call} {self._of_floats}" for call in self.floats)

    @property
    def _of_floats(self) -> str:
        said = "adds floats: its last bits may differ from run to run in ClickHouse itself"
        if self.columns is None:
            return f"{said}, and here they may decide which rows there are, or their order"
        return said if self.shown else f"{said}, and here they are rounded or compared"


def changing(sql: str, floats: Collection[str] = ()) -> Changing:
    """What of a query's answer may change though no row has. `floats` are those of a plan."""
    try:
        source = Source(sql)
        calls = {source_of.same(Span(0, len(source_of.tokens))) for source_of in map(Source, floats)}
        found = [index for index in range(len(source.tokens)) if _changes(source, index)]
        added = [span for span in _spans(source) if source.same(span) in calls]
        places = [*found, *(span.first for span in added)]
        names = tuple(sorted({source.tokens[index].text for index in found}))
        texts = tuple(dict.fromkeys(source.text(span) for span in added))
        return Changing(names, _columns(source, places), texts, _shown(source, added))
    except Unreadable:
        return Changing((), frozenset())


def _spans(source: Source) -> Iterator[Span]:
    """Every call, with both of its brackets where it has parameters, and FILTER."""
    for index in range(len(source.tokens) - 1):
        last = index
        while source.is_op(last + 1, "(") or source.word(last + 1) == "FILTER":
            last = source.pair[last + 1] if source.is_op(last + 1, "(") else last + 1
            if source.tokens[index].name:
                yield Span(index, last + 1)


def _shown(source: Source, calls: list[Span]) -> bool:
    """Each call is an item of SELECT by itself."""
    try:
        items = {item.expression for item in parse_select(source).items}
    except Unreadable:
        return not calls
    return all(call in items for call in calls)


def _changes(source: Source, index: int) -> bool:
    if not source.is_op(index + 1, "(") or source.is_op(index - 1, "."):
        return False
    after = source.pair[index + 1] + 1
    while after < len(source.tokens) and source.word(after) in ("RESPECT", "IGNORE", "NULLS"):
        after += 1
    over = after < len(source.tokens) and source.word(after) == "OVER"
    return not over and not reproducible(source.tokens[index].name)


def _columns(source: Source, found: list[int]) -> frozenset[int] | None:
    """The select items that hold what was found, if nothing else depends on them."""
    if not found:
        return frozenset()
    try:
        select = parse_select(source)
    except Unreadable:
        return None
    holding = {at: item for at, item in enumerate(select.items) if any(i in item.whole for i in found)}
    elsewhere = any(not any(i in item.whole for item in holding.values()) for i in found)
    order = select.body("ORDER BY")
    positional = any(source.tokens[i].kind is Kind.NUMBER for i in order or ())
    if known_width(select) is None or elsewhere or positional or select.distinct:
        return None
    if any(_used(source, item) for item in holding.values()):
        return None
    return frozenset(holding)


def _used(source: Source, item: Item) -> bool:
    """The item's alias stands somewhere else in the query."""
    return item.alias is not None and any(
        token.name == item.alias and index not in item.whole for index, token in enumerate(source.tokens)
    )
