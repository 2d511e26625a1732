"""The parts of a SELECT's expressions on their tokens: items, aliases, casts, lambdas, names with dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from endpoints.query.lexer import Kind, Token
from endpoints.query.structure import closing, operand_positions, subqueries, top_level

_QUERY_STARTS: Final = frozenset({"SELECT", "WITH", "FROM"})
_CHANGE_COLUMNS: Final = frozenset({"EXCEPT", "REPLACE", "APPLY", "COLUMNS"})
_CASTS: Final = frozenset({"CAST", "ACCURATECAST", "ACCURATECASTORNULL"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that stand where a value is due and are none: a column of that name could be meant as well.
WORDS: Final = _words(
    """
    ALL ANY BOTH CASE CURRENT DATE DISTINCT EXISTS FALSE INF INTERVAL LEADING NAN NOT NULL ORDER PARTITION
    RANGE ROWS TIMESTAMP TRAILING TRUE UNBOUNDED WHEN WHERE
    """
)
# Words that stand where an operator is due.
OPERATORS: Final = _words(
    """
    AND AS ASC BETWEEN BY COLLATE DESC DIV ELSE END ESCAPE FILTER FIRST FOLLOWING FOR FROM GLOBAL IGNORE ILIKE
    IN IS LAST LIKE MOD NOT NULL NULLS OR ORDER OVER PARTITION PRECEDING RANGE REGEXP RESPECT ROW ROWS THEN
    UNBOUNDED WHEN WHERE XOR MICROSECOND MILLISECOND SECOND MINUTE HOUR DAY WEEK MONTH QUARTER YEAR SECONDS
    MINUTES HOURS DAYS WEEKS MONTHS QUARTERS YEARS
    """
)
JOIN_WORDS: Final = _words(
    "ALL ANTI ANY ASOF CROSS FULL GLOBAL INNER JOIN LEFT LOCAL NATURAL ON OUTER PASTE RIGHT SEMI USING"
)
AFTER_TABLE: Final = frozenset({"FINAL", "SAMPLE", "OFFSET", "ARRAY"}) | JOIN_WORDS
_BEFORE_VALUE: Final = frozenset({"CASE", "WHEN", "THEN", "ELSE"})


def value_positions(tokens: Sequence[Token]) -> list[bool]:
    """For each token whether a value is due there; as `operand_positions`, which does not know CASE."""
    return [
        due or (index > 0 and tokens[index - 1].word in _BEFORE_VALUE)
        for index, due in enumerate(operand_positions(tokens))
    ]


def split(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """The tokens between top-level commas."""
    edges = [index for index, token in top_level(tokens) if token.text == ","]
    starts, ends = [0, *(edge + 1 for edge in edges)], [*edges, len(tokens)]
    return [tuple(tokens[start:end]) for start, end in zip(starts, ends, strict=True) if end > start]


def items(tokens: Sequence[Token]) -> list[tuple[Token, ...]] | None:
    """The expressions of a SELECT; None with `DISTINCT ON` or TOP."""
    if tokens and tokens[0].word == "DISTINCT":
        tokens = tokens[1:]
        if tokens and tokens[0].word == "ON":
            return None
    if not tokens or tokens[0].word == "TOP":
        return None
    return split(tokens)


def aliased(item: Sequence[Token]) -> tuple[tuple[Token, ...], str | None]:
    """An expression, and the name that it is given: by AS, or by a name where an operator is due."""
    if len(item) > 2 and item[-2].word == "AS" and item[-1].name:
        return tuple(item[:-2]), item[-1].name
    last = len(item) - 1
    if last < 1 or not item[last].name or value_positions(item)[last] or item[last].word in WORDS | OPERATORS:
        return tuple(item), None
    if item[last - 1].text in (".", "::"):
        return tuple(item), None
    return tuple(item[:last]), item[last].name


def inner_aliases(tokens: Sequence[Token]) -> list[tuple[str, tuple[Token, ...]]]:
    """Names given within an expression, `(a + 1 AS b) * 2`; what they are given to is not read: unknown."""
    found = []
    for index, token in enumerate(tokens[:-1]):
        if token.word == "AS" and not is_cast(tokens, index) and tokens[index + 1].name:
            found.append((tokens[index + 1].name, tuple(tokens[index + 1 : index + 2])))
    return found


def plain_name(expression: Sequence[Token]) -> str | None:
    """The name of a column that is only a column."""
    names = [token.name for token in expression]
    dots = expression[1::2]
    if len(expression) % 2 and all(names[::2]) and all(dot.text == "." for dot in dots) and len(names) <= 5:
        return names[-1]
    return None


def is_columns(expression: Sequence[Token]) -> bool:
    """`COLUMNS('…')`, `* EXCEPT …`, `* REPLACE …`: as many columns as the server finds."""
    operand = operand_positions(expression)
    star = any(token.text == "*" and operand[index] for index, token in top_level(expression))
    return star or any(token.word in _CHANGE_COLUMNS for _, token in top_level(expression))


def chain(tokens: Sequence[Token], index: int) -> tuple[list[str], int]:
    """The names of `a.b.c`, and the index after them; a tuple's element `.1` ends them."""
    parts = [tokens[index].name]
    index += 1
    while (
        index + 1 < len(tokens)
        and tokens[index].text == "."
        and (tokens[index + 1].name or tokens[index + 1].kind is Kind.NUMBER)
    ):
        if tokens[index + 1].name:
            parts.append(tokens[index + 1].name)
        index += 2
    return parts, index


def opens_query(tokens: Sequence[Token], index: int) -> bool:
    inside = index + 1
    while inside < len(tokens) and tokens[inside].text == "(":
        inside += 1
    return (
        inside < len(tokens)
        and tokens[inside].word in _QUERY_STARTS
        and any(True for _ in subqueries(tokens[index : closing(tokens, index) + 1]))
    )


def lambda_names(tokens: Sequence[Token]) -> frozenset[str]:
    """The names before each `->`: `x -> …`, `(x, y) -> …`."""
    names: set[str] = set()
    for index, token in enumerate(tokens):
        if token.text != "->" or not index:
            continue
        back = index - 1
        if tokens[back].text == ")":
            while back and tokens[back].text != "(":
                back -= 1
            names |= {t.name for t in tokens[back:index] if t.name}
        else:
            names.add(tokens[back].name)
    return frozenset(names)


def is_cast(tokens: Sequence[Token], index: int) -> bool:
    """Whether the AS at `index` is that of `CAST(x AS Type)`."""
    depth = 0
    for back in range(index - 1, -1, -1):
        depth += (tokens[back].text == ")") - (tokens[back].text == "(")
        if depth < 0:
            return back > 0 and tokens[back - 1].word in _CASTS
    return False


def after_type(tokens: Sequence[Token], index: int) -> int:
    """The index after a type: a name, and brackets."""
    index += 1
    if index < len(tokens) and tokens[index].text == "(":
        index = closing(tokens, index) + 1
    return index


def end_of_arrays(tokens: Sequence[Token], index: int) -> int:
    """Where the list of an ARRAY JOIN ends: at the next JOIN's first word."""
    for at, token in top_level(tokens):
        if at >= index and token.word in JOIN_WORDS:
            return at
    return len(tokens)
