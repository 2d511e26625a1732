"""The clauses of a query, found on its tokens: SELECTs at every depth, and what joins them.

Not a parser: expressions stay token runs, and text that ClickHouse would refuse gets some structure all the
same. What tells a keyword from a column of that name is where it stands: a clause begins where an operator
could stand (`SELECT limit FROM t LIMIT 1`: the first stands where a value is due), and clauses come in one
order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from endpoints.query.lexer import Kind, Token, significant, tokenize

# A clause may begin after those of a lower rank, and after its own rank where it can be repeated.
_RANKS: Final = {
    "WITH": 0,
    "SELECT": 1,
    "FROM": 2,
    "PREWHERE": 3,
    "WHERE": 4,
    "GROUP BY": 5,
    "HAVING": 6,
    "WINDOW": 7,
    "QUALIFY": 8,
    "ORDER BY": 9,
    "LIMIT": 10,
    "OFFSET": 10,
    "FETCH": 10,
    "SETTINGS": 11,
    "INTO": 11,
    "FORMAT": 11,
}
_REPEATED: Final = 10
CONDITIONS: Final = ("PREWHERE", "WHERE", "HAVING", "QUALIFY")
_SET_OPERATORS: Final = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_QUERY_STARTS: Final = frozenset({"SELECT", "WITH", "FROM"})
_OPEN: Final = {"(": ")", "[": "]", "{": "}"}
# After these words a value, a table or a name is due, as after an operator or a comma …
_WANTS_OPERAND: Final = frozenset(
    {
        *("AND", "OR", "XOR", "NOT", "IN", "LIKE", "ILIKE", "REGEXP", "BETWEEN", "IS", "DIV", "MOD", "WHEN"),
        *("THEN", "ELSE", "DISTINCT", "BY", "JOIN", "ON", "USING", "SELECT", "FROM", "PREWHERE", "WHERE"),
        *("HAVING", "WINDOW", "QUALIFY", "LIMIT", "OFFSET", "SETTINGS", "FORMAT", "INTO", "WITH", "UNION"),
        *("INTERSECT", "EXCEPT", "REPLACE", "APPLY", "SAMPLE"),
    }
)
# … and after these even where they stand in a value's place themselves; other words there are columns.
_PREFIXES: Final = frozenset({"NOT", "CASE", "DISTINCT", "SELECT", "WITH", "FROM", "WHERE"})
_AFTER_NOT: Final = frozenset({"IN", "LIKE", "ILIKE", "REGEXP", "BETWEEN"})


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause: `keyword` in capitals (`GROUP BY`, `LIMIT BY`), `tokens` what follows it, brackets and all.

    `start` is the keyword's offset, `end` the offset after the last token.
    """

    keyword: str
    start: int
    end: int
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT, its clauses in the order written; `LIMIT`, `LIMIT BY`, `OFFSET` are clauses of their own.

    `depth` is 0 for the outermost query. `operator` joins it to the SELECT before it: `UNION ALL`, or "".
    """

    clauses: tuple[Clause, ...]
    start: int
    end: int
    depth: int
    operator: str

    def clause(self, keyword: str) -> Clause | None:
        """The first clause of that keyword."""
        return next((clause for clause in self.clauses if clause.keyword == keyword), None)


@dataclass(frozen=True, slots=True)
class Query:
    """SELECTs joined by set operators: the whole statement, or what stands in one pair of brackets.

    A branch in brackets of its own is a Query. `start` and `end` exclude the brackets around it.
    `trailing` are clauses after a closing bracket, as in `(SELECT 1) SETTINGS …`.
    """

    branches: tuple[Select | Query, ...]
    start: int
    end: int
    depth: int
    operator: str = ""
    trailing: tuple[Clause, ...] = ()


@lru_cache(maxsize=4096)
def parse(sql: str) -> Query:
    """The structure of a whole statement, without a closing `;`."""
    return _Parser(strip_semicolons(significant(tokenize(sql)))).query(0)


def strip_semicolons(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """The tokens without the `;` at their end."""
    end = len(tokens)
    while end and tokens[end - 1].text == ";":
        end -= 1
    return tuple(tokens[:end])


@lru_cache(maxsize=4096)
def selects(sql: str) -> tuple[Select, ...]:
    """Every SELECT of a statement at any depth, outer ones first."""
    return tuple(_walk(parse(sql)))


def select_at(sql: str, offset: int) -> Select | None:
    """The innermost SELECT whose text holds the offset."""
    holding = [s for s in selects(sql) if s.start <= offset < s.end]
    return max(holding, key=lambda s: s.start, default=None)


def _walk(query: Query) -> Iterator[Select]:
    for branch in query.branches:
        if isinstance(branch, Query):
            yield from _walk(branch)
        else:
            yield branch
            for clause in branch.clauses:
                for inner in subqueries(clause.tokens, branch.depth + 1):
                    yield from _walk(inner)


def subqueries(tokens: Sequence[Token], depth: int = 0) -> Iterator[Query]:
    """The queries in brackets among the tokens, but not the queries within those."""
    if not any(token.word in _QUERY_STARTS for token in tokens):
        return
    parser = _Parser(tuple(tokens))
    index = 0
    while index < len(tokens):
        if parser.opens_query(index):
            close = parser.close[index]
            yield _Parser(tuple(tokens[index + 1 : close])).query(depth)
            index = close
        index += 1


def top_level(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """Index and token of all that is in no brackets, the brackets themselves included."""
    depth = 0
    for index, token in enumerate(tokens):
        closes = token.text in (")", "]") and token.kind is Kind.OPERATOR
        depth -= closes and depth > 0
        if depth == 0:
            yield index, token
        depth += token.text in ("(", "[") and token.kind is Kind.OPERATOR


def closing(tokens: Sequence[Token], index: int) -> int:
    """Index of the bracket that closes the one at `index`; the number of tokens if none does."""
    return _matching(tokens).get(index, len(tokens))


def operand_positions(tokens: Sequence[Token]) -> list[bool]:
    """For each token whether it stands where a value, name or table is due, not an operator or keyword."""
    result: list[bool] = []
    due = True
    for index, token in enumerate(tokens):
        previous = tokens[index - 1] if index else None
        if previous is not None and (previous.text in (".", "::") or previous.word == "AS"):
            due = True
        result.append(due)
        due = _operand_due(token, due, previous, tokens[index + 1] if index + 1 < len(tokens) else None)
    return result


def _operand_due(token: Token, here: bool, previous: Token | None, following: Token | None) -> bool:
    """Whether a value is due after `token`, which stands where one is due (`here`) or not."""
    if token.kind is Kind.OPERATOR:
        # `*` is a value in `SELECT * FROM`, an operator in `a * b`.
        return token.text not in (")", "]", "}") and not (token.text == "*" and here)
    word = token.word
    if not word or (previous is not None and (previous.text == "." or previous.word == "AS")):
        return False
    if not here:
        return word in _WANTS_OPERAND
    negated = previous is not None and previous.word == "NOT" and word in _AFTER_NOT
    is_column = following is not None and following.text in (",", ")", ".", "=")
    return (word in _PREFIXES or negated) and not is_column


class _Parser:
    """Structure of one run of tokens. `close[i]` is the index of the bracket that closes the one at i."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.tokens = tokens
        self.operand = operand_positions(tokens)
        self.close = _matching(tokens)

    def query(self, depth: int) -> Query:
        tokens = self.tokens
        if not tokens:
            return Query((), 0, 0, depth)
        branches: list[Select | Query] = []
        trailing: tuple[Clause, ...] = ()
        first, operator = 0, ""
        index = 0
        while index <= len(tokens):
            width = self._set_operator(index) if index < len(tokens) else 0
            if index == len(tokens) or width:
                branch, trailing = self._branch(first, index, depth, operator)
                branches.append(branch)
                operator = " ".join(t.word for t in tokens[index : index + width])
                index += max(width, 1)
                first = index
                continue
            index = self.close.get(index, index) + 1
        return Query(tuple(branches), tokens[0].start, tokens[-1].end, depth, "", trailing)

    def opens_query(self, index: int) -> bool:
        """Whether the bracket at `index` holds a query."""
        if (
            self.tokens[index].text != "("
            or self.tokens[index].kind is not Kind.OPERATOR
            or index not in self.close
        ):
            return False
        inside = index + 1
        while inside < self.close[index] and self.tokens[inside].text == "(":
            inside += 1
        word = self.tokens[inside].word
        if word == "FROM":  # `(FROM t SELECT …)`, not `(from, to)`
            return inside + 1 < len(self.tokens) and self.tokens[inside + 1].kind in (Kind.WORD, Kind.QUOTED)
        return word in _QUERY_STARTS and self.tokens[inside + 1].text not in (",", ")", "=", ".")

    def _set_operator(self, index: int) -> int:
        """How many tokens the set operator at `index` has: 0 if none is there."""
        if self.tokens[index].word not in _SET_OPERATORS or self.operand[index]:
            return 0
        after = index + 1
        while after < len(self.tokens) and self.tokens[after].word in ("ALL", "DISTINCT"):
            after += 1
        width = after - index
        while after < len(self.tokens) and self.tokens[after].text == "(":
            after += 1
        # `* EXCEPT (a)` takes columns away; only `EXCEPT SELECT` joins queries.
        return width if after < len(self.tokens) and self.tokens[after].word in _QUERY_STARTS else 0

    def _branch(
        self, first: int, end: int, depth: int, operator: str
    ) -> tuple[Select | Query, tuple[Clause, ...]]:
        if first < end and self.opens_query(first):
            close = self.close[first]
            inner = _Parser(self.tokens[first + 1 : close]).query(depth)
            named = Query(inner.branches, inner.start, inner.end, depth, operator, inner.trailing)
            return named, self._clauses(close + 1, end)
        clauses = self._clauses(first, end)
        tokens = self.tokens[first:end]
        start, stop = (tokens[0].start, tokens[-1].end) if tokens else (0, 0)
        return Select(clauses, start, stop, depth, operator), ()

    def _clauses(self, first: int, end: int) -> tuple[Clause, ...]:
        """The clauses of `tokens[first:end]`."""
        starts: list[tuple[int, int, str]] = []
        rank = -1
        index = first
        while index < end:
            keyword, width = self._keyword(index, rank, {name for _, _, name in starts})
            if keyword:
                starts.append((index, width, keyword))
                rank = max(rank, _RANKS[keyword])
                index += width
            else:
                index = self.close.get(index, index) + 1
        starts = self._join_limit_by(starts, end)
        edges = [*(start for start, _, _ in starts[1:]), end][: len(starts)]
        clauses = []
        for (start, width, keyword), stop in zip(starts, edges, strict=True):
            body = self.tokens[start + width : stop]
            clauses.append(Clause(keyword, self.tokens[start].start, self.tokens[stop - 1].end, body))
        return tuple(clauses)

    def _join_limit_by(self, starts: Sequence[tuple[int, int, str]], end: int) -> list[tuple[int, int, str]]:
        """The starts of clauses with `LIMIT n [OFFSET m] BY x` as one, `LIMIT BY`."""
        joined: list[tuple[int, int, str]] = []
        for (start, width, keyword), stop in zip(starts, [*(s for s, _, _ in starts[1:]), end], strict=False):
            body = self.tokens[start + width : stop]
            by = keyword in ("LIMIT", "OFFSET") and any(t.word == "BY" for _, t in top_level(body))
            if by and keyword == "OFFSET" and joined and joined[-1][2] == "LIMIT":
                start, width, _ = joined.pop()
            joined.append((start, width, "LIMIT BY" if by else keyword))
        return joined

    def _keyword(self, index: int, rank: int, seen: set[str]) -> tuple[str, int]:
        """The clause keyword at `index` and its number of tokens; ("", 0) if no clause begins there."""
        token, width = self.tokens[index], 1
        word = token.word
        following = self.tokens[index + 1] if index + 1 < len(self.tokens) else None
        if word in ("GROUP", "ORDER"):
            word, width = (f"{word} BY", 2) if following is not None and following.word == "BY" else ("", 0)
        if word not in _RANKS:
            return "", 0
        previous = self.tokens[index - 1] if index else None
        if rank >= 0 and self.operand[index] and not self._after_trailing_comma(word, previous):
            return "", 0
        if word == "OFFSET" and self._follows_sample(index):
            return "", 0
        due = _RANKS[word]
        if word == "SELECT" and seen == {"FROM"} | (seen & {"WITH"}):
            return word, width  # FROM t SELECT x
        if due > rank or (due == rank and due >= _REPEATED):
            return word, width
        return "", 0

    def _follows_sample(self, index: int) -> bool:
        """`SAMPLE 1/10 OFFSET 1/2`, in FROM."""
        first = index - 3 if index > 3 and self.tokens[index - 2].text == "/" else index - 1
        return first > 0 and self.tokens[first - 1].word == "SAMPLE"

    def _after_trailing_comma(self, word: str, previous: Token | None) -> bool:
        """`SELECT a, FROM t` is allowed: the comma there means nothing."""
        return word in ("FROM", "SELECT") and previous is not None and previous.text == ","


def _matching(tokens: Sequence[Token]) -> dict[int, int]:
    """Index of each opening bracket → index of the one that closes it; those without one are left out."""
    close: dict[int, int] = {}
    stack: list[int] = []
    for index, token in enumerate(tokens):
        if token.kind is not Kind.OPERATOR:
            continue
        if token.text in _OPEN:
            stack.append(index)
        elif stack and _OPEN[tokens[stack[-1]].text] == token.text:
            close[stack.pop()] = index
    return close
