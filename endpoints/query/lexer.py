"""ClickHouse's tokens, with offsets, in the spirit of its own `src/Parsers/Lexer.cpp`.

Everything here that looks at SQL looks at these tokens, never at a parse tree that may not exist: what we
cannot parse must still be checked, bound and run. The texts of all tokens, joined, are the source again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final


class Kind(Enum):
    """What a token is.

    WORD is a keyword or a bare name: ClickHouse's lexer does not tell them apart either.
    """

    SPACE = "space"
    COMMENT = "comment"
    WORD = "word"
    QUOTED = "quoted"  # "name" or `name`
    NUMBER = "number"
    STRING = "string"  # '…', $tag$…$tag$, x'…'
    PLACEHOLDER = "placeholder"  # {name:Type}, whole
    OPERATOR = "operator"
    ERROR = (
        "error"  # what ClickHouse refuses: a stray character, or all that follows an open quote or comment
    )


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is `sql[start:end]`; offsets count characters; `line` counts from 1.

    `word` is the text in capitals if it is a bare word, else empty: what keywords are compared with.
    """

    kind: Kind
    start: int
    end: int
    text: str
    line: int
    word: str = ""

    @property
    def name(self) -> str:
        """The identifier that this token writes, without its quotes; the empty string if it writes none."""
        if self.kind is Kind.WORD:
            return self.text
        if self.kind is not Kind.QUOTED:
            return ""
        quote = self.text[-1]
        return re.sub(r"\\(.)", r"\1", self.text[1:-1].replace(quote * 2, quote), flags=re.DOTALL)


_PATTERNS: Final = (
    # The spaces that office programs leave behind are spaces to ClickHouse as well.
    (Kind.SPACE, r"[ \t\n\r\f\v\u0085\u00a0\u180e\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]+"),
    (Kind.COMMENT, r"(?:--|//|\#(?=[ !]))[^\n]*|/\*"),
    (
        Kind.STRING,
        r"'(?:[^'\\]|\\.|'')*'|‘[^’]*’|[xX]'[0-9a-fA-F]*'|[bB]'[01]*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$",
    ),
    (Kind.QUOTED, r'"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`|“[^”]*”'),
    # Straight after a dot or an operand, digits are a tuple's element: `t.1.2` is not t and .1 and .2.
    (
        Kind.NUMBER,
        r"(?:(?<=[\w$)\]\"`]\.)[0-9]+|0[xX][0-9a-fA-F_]+(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9]+)?|0[bB][01_]+"
        r"|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|(?<![\w$)\]\"`])\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?)(?![\w$])",
    ),
    (Kind.WORD, r"[\w$]+"),
    (Kind.OPERATOR, r"<=>|->|::|\|\||@@|<=|<>|>=|!=|==|[()\[\]{},;.:+\-*/%<>=?@|^!−]"),
    (Kind.ERROR, r"['\"`‘“].*|."),
)
_TOKEN: Final = re.compile(
    "|".join(f"(?P<{k.name}>{pattern})" for k, pattern in _PATTERNS), re.DOTALL | re.ASCII
)
_KINDS: Final = {kind.name: kind for kind in Kind}
_ONE_LINE: Final = frozenset({Kind.WORD, Kind.OPERATOR, Kind.NUMBER})
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


@lru_cache(maxsize=4096)  # a project's worth: definitions are read one after the other, then planned
def tokenize(sql: str) -> tuple[Token, ...]:
    """All tokens of the text, spaces and comments included.

    Never fails: what ClickHouse refuses is Kind.ERROR.
    """
    return tuple(_join_placeholders(tuple(_scan(sql)), sql))


def significant(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """The tokens that ClickHouse's parser sees: all but spaces and comments."""
    return tuple(t for t in tokens if t.kind is not Kind.SPACE and t.kind is not Kind.COMMENT)


def _scan(sql: str) -> Iterator[Token]:
    position, line = 0, 1
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        assert match is not None  # the last pattern takes any character
        assert match.lastgroup is not None
        kind, end = _KINDS[match.lastgroup], match.end()
        if kind is Kind.COMMENT and sql.startswith("/*", position):
            closed = _block_comment_end(sql, position)
            kind, end = (Kind.COMMENT, closed) if closed else (Kind.ERROR, len(sql))
        text = sql[position:end]
        yield Token(kind, position, end, text, line, text.upper() if kind is Kind.WORD else "")
        position = end
        if kind not in _ONE_LINE:
            line += text.count("\n")


def _block_comment_end(sql: str, start: int) -> int | None:
    """Where the comment that begins at `start` ends; they nest, as in the SQL standard.

    None if it never does.
    """
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return None


def _join_placeholders(tokens: Sequence[Token], sql: str) -> Iterator[Token]:
    """The same tokens, with each `{name:Type}` as one."""
    index = 0
    while index < len(tokens):
        token = tokens[index]
        last = _placeholder_end(tokens, index) if token.text == "{" else None
        if last is None:
            yield token
            index += 1
        else:
            end = tokens[last].end
            yield Token(Kind.PLACEHOLDER, token.start, end, sql[token.start : end], token.line)
            index = last + 1


def _placeholder_end(tokens: Sequence[Token], start: int) -> int | None:
    """Index of the `}` that closes the placeholder whose `{` is at `start`; None if it is not one."""
    seen = 0
    for index in range(start + 1, len(tokens)):
        token = tokens[index]
        if token.kind in (Kind.SPACE, Kind.COMMENT):
            continue
        seen += 1
        if (seen == 1 and token.kind is not Kind.WORD) or (seen == 2 and token.text != ":"):
            return None
        if token.text == "}":
            return index if seen > 3 else None
        if token.text in ("{", ";") or token.kind is Kind.ERROR:
            return None
    return None
