"""What a SELECT groups by, and which expressions those keys decide."""

from __future__ import annotations

from dataclasses import dataclass

from endpoints.query.lexer import Kind
from endpoints.query.plan.functions import aggregate
from endpoints.query.plan.select import KEYWORDS, UNITS, Item, Select, Source, Span
from endpoints.query.plan.terms import aggregates, terms

Texts = frozenset[tuple[str, ...]]


# Keywords of other places than expressions: here they may be columns of that name (`first`, `sample`,
# `order`).
_PERHAPS_COLUMNS = (KEYWORDS | UNITS) - frozenset(
    {
        *("AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE", "INTERVAL"),
        *("CASE", "WHEN", "THEN", "ELSE", "END", "DIV", "MOD", "AS"),
    }
)


@dataclass(frozen=True, slots=True)
class Decided:
    """Expressions with one value per key: rows of one group agree in them."""

    source: Source
    texts: Texts

    def decide(self, span: Span) -> bool:
        """The expression is a key, or a function of keys and literals."""
        source, span = self.source, self.source.unwrap(span)
        if source.same(span) in self.texts:
            return True
        if any(source.is_op(index, "->") for index in span) or source.has_word(span, *_PERHAPS_COLUMNS):
            return False
        found = list(terms(source, span))
        return all(
            source.same(term.span) in self.texts
            or (
                term.function is not None
                and not term.over
                and not aggregate(term.function)
                and term.head == term.span
                and all(self.decide(argument) for argument in term.arguments if argument)
            )
            for term in found
        )


@dataclass(frozen=True, slots=True)
class Keys:
    """`group`, `distinct`, `selected` and `limit_by`: what each decides. `windows` are the brackets behind
    OVER and in WINDOW.
    `group_keys` are the keys' expressions, positions and ALL resolved to items.
    """

    aggregated: bool
    group: Decided
    distinct: Decided
    selected: Decided
    limit_by: Decided
    windows: tuple[Span, ...]
    group_keys: tuple[Span, ...]


def select_keys(select: Select) -> Keys:
    source = select.source
    by = select.limit_by.by if select.limit_by else None
    return Keys(
        aggregated=_is_aggregated(select),
        group=_decided(select, _group_keys(select)),
        distinct=_decided(select, _distinct_keys(select)),
        selected=_decided(select, tuple(item.expression for item in select.items)),
        limit_by=_decided(select, source.split(by) if by else ()),
        windows=tuple(_windows(select)),
        group_keys=_group_keys(select),
    )


def _is_aggregated(select: Select) -> bool:
    spans = [item.expression for item in select.items]
    spans += [select.clauses[name] for name in ("HAVING", "ORDER BY") if name in select.clauses]
    return "GROUP BY" in select.clauses or any(
        True for span in spans for _ in aggregates(select.source, span)
    )


def _group_keys(select: Select) -> tuple[Span, ...]:
    source, body = select.source, select.body("GROUP BY")
    if body is None:
        return ()
    if source.word(body.first) == "ALL":
        return tuple(
            item.expression
            for item in select.items
            if not any(True for _ in aggregates(source, item.expression))
        )
    return tuple(_positional(select, key) for key in source.split(source.unwrap(body)))


def _distinct_keys(select: Select) -> tuple[Span, ...]:
    if select.distinct_on is not None:
        return select.source.split(select.distinct_on)
    return tuple(item.expression for item in select.items)


def _positional(select: Select, key: Span) -> Span:
    token = select.source.tokens[key.first]
    if key.last - key.first == 1 and token.kind is Kind.NUMBER and token.text.isdecimal():
        position = int(token.text)
        if 1 <= position <= len(select.items):
            return select.items[position - 1].expression
    return key


def _decided(select: Select, keys: tuple[Span, ...]) -> Decided:
    """The keys' texts; with each that is an alias, the text it stands for, and the other way round."""
    source = select.source
    texts = {source.same(source.unwrap(key)) for key in keys if key}
    used = _names_of_items(select)
    for item in select.items:
        if item.alias is None or item.alias in used:
            continue
        written, name = source.same(source.unwrap(item.expression)), (item.alias,)
        if written in texts or name in texts:
            texts |= {written, name}
    return Decided(source, frozenset(texts))


def shadows(select: Select, item: Item) -> bool:
    """The alias is also a name within some item's expression: the same text then means different things."""
    return item.alias in _names_of_items(select)


def _names_of_items(select: Select) -> set[str]:
    tokens = select.source.tokens
    return {tokens[index].name for item in select.items for index in item.expression} - {""}


def _windows(select: Select) -> list[Span]:
    source = select.source
    spans = [item.expression for item in select.items]
    spans += [select.clauses[name] for name in ("QUALIFY", "ORDER BY") if name in select.clauses]
    found = [
        Span(index + 1, source.pair[index + 1] + 1)
        for span in spans
        for index in span
        if source.word(index) == "OVER" and source.is_op(index + 1, "(")
    ]
    if body := select.body("WINDOW"):
        found += [
            Span(index + 1, source.pair[index + 1] + 1)
            for index in source.shallow(body)
            if source.word(index) == "AS" and source.is_op(index + 1, "(")
        ]
    return found
