"""Conditions split where AND joins them: the unit that an optional variable drops and a plan takes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from endpoints.query.lexer import Kind, Token
from endpoints.query.structure import CONDITIONS, Clause, Select, select_at, subqueries, top_level
from endpoints.query.variables import Placeholder, read_placeholder

# Words and functions that hold more than one predicate.
_JOINERS: Final = frozenset({"OR", "AND", "XOR", "CASE", "IF", "MULTIIF"})


@dataclass(frozen=True, slots=True)
class Conjunct:
    """One condition that must hold, `sql[start:end]`; `clause` is PREWHERE, WHERE, HAVING or QUALIFY."""

    clause: str
    start: int
    end: int
    tokens: tuple[Token, ...]

    @property
    def variables(self) -> frozenset[str]:
        """The names of the variables in it, at any depth."""
        return frozenset(_names(self.tokens))


def conjuncts(clause: Clause) -> tuple[Conjunct, ...]:
    """The conditions that AND joins, in order; brackets around ANDs are opened.

    An OR makes one conjunct of it all.
    """
    return tuple(_split(clause.keyword, clause.tokens))


def select_conjuncts(select: Select) -> tuple[Conjunct, ...]:
    """All conjuncts of a SELECT's own conditions."""
    return tuple(c for clause in select.clauses if clause.keyword in CONDITIONS for c in conjuncts(clause))


def conjunct_of(sql: str, placeholder: Placeholder) -> Conjunct | None:
    """The conjunct of the innermost SELECT that holds the placeholder;

    None where it is in no condition of it.
    """
    select = select_at(sql, placeholder.start)
    if select is None:
        return None
    return next((c for c in select_conjuncts(select) if c.start <= placeholder.start < c.end), None)


def optional_conjunct(sql: str, placeholder: Placeholder) -> Conjunct | str:
    """The conjunct that goes when the variable is not given, or why there is none, as half a sentence.

    It must be this variable's alone: in `(customer = {c} OR shared = {s})` dropping only the half that
    lacks a value would answer with less than asked, dropping the whole with everybody's rows (plan rule 9).
    """
    conjunct = conjunct_of(sql, placeholder)
    if conjunct is None:
        return "stands in no condition of WHERE, PREWHERE, HAVING or QUALIFY"
    others = sorted(conjunct.variables - {placeholder.name})
    if others:
        return f"shares its condition with {', '.join(others)}"
    if _holds_several(conjunct.tokens):
        return "shares its condition with another, under OR, NOT or the like"
    if _names_a_part(conjunct.tokens):
        return "is in a condition that names a part of itself with AS, which must not go away"
    return conjunct


def _split(keyword: str, tokens: Sequence[Token]) -> Iterator[Conjunct]:
    tokens = tuple(tokens)
    if not tokens:
        return
    inner = _unbracketed(tokens)
    if inner is not None:
        yield from _split(keyword, inner)
        return
    joints = _ands(tokens)
    if not joints:
        yield Conjunct(keyword, tokens[0].start, tokens[-1].end, tokens)
        return
    for first, stop in zip((0, *(joint + 1 for joint in joints)), (*joints, len(tokens)), strict=True):
        yield from _split(keyword, tokens[first:stop])


def _ands(tokens: Sequence[Token]) -> list[int]:
    """Where top-level ANDs join conditions; none if an OR or `? :` there binds more loosely."""
    joints: list[int] = []
    between = cases = 0
    for index, token in top_level(tokens):
        word = token.word
        if index and tokens[index - 1].text == ".":
            continue
        cases += (word == "CASE") - (word == "END")
        if cases > 0:
            continue
        if word == "OR" or token.text in ("?", "->"):
            return []
        if word == "BETWEEN":
            between += 1
        elif word == "AND" and between:
            between -= 1
        elif word == "AND":
            joints.append(index)
    return joints


def _unbracketed(tokens: tuple[Token, ...]) -> tuple[Token, ...] | None:
    """What is in the brackets if they are around everything and hold a condition, not a tuple or a query."""
    if tokens[0].text != "(" or tokens[0].kind is not Kind.OPERATOR:
        return None
    top = [index for index, _ in top_level(tokens)]
    inner = tokens[1:-1]
    if (
        top != [0, len(tokens) - 1]
        or not inner
        or (next(subqueries(tokens), None) is not None and inner[0].word in ("SELECT", "WITH", "FROM"))
    ):
        return None
    return None if any(token.text == "," for _, token in top_level(inner)) else inner


def _holds_several(tokens: Sequence[Token]) -> bool:
    """Whether more than one predicate is in there, outside queries of its own."""
    hidden = [(query.start, query.end) for query in subqueries(tokens)]
    own = [t for t in tokens if not any(start <= t.start < end for start, end in hidden)]
    between = 0
    for index, token in enumerate(own):
        if token.text == "?" or (token.word in _JOINERS and not (index and own[index - 1].text == ".")):
            if token.word == "AND" and between:
                between -= 1
                continue
            return True
        between += token.word == "BETWEEN"
    return False


def _names_a_part(tokens: Sequence[Token]) -> bool:
    """Whether an alias is made in there, other than the type of a CAST."""
    hidden = [(query.start, query.end) for query in subqueries(tokens)]
    opened: list[str] = []
    for index, token in enumerate(tokens):
        if any(start <= token.start < end for start, end in hidden):
            continue
        if token.text == "(" and token.kind is Kind.OPERATOR:
            opened.append(tokens[index - 1].word if index else "")
        elif token.text == ")" and token.kind is Kind.OPERATOR and opened:
            opened.pop()
        elif token.word == "AS" and not (opened and opened[-1] in ("CAST", "TRY_CAST")):
            return True
    return False


def _names(tokens: Sequence[Token]) -> Iterator[str]:
    return (read_placeholder(t).name for t in tokens if t.kind is Kind.PLACEHOLDER)
