"""The placeholders of a query, `{name:Type}`, where ClickHouse itself would see them."""

from __future__ import annotations

from dataclasses import dataclass

from endpoints.query.lexer import Kind, Token, tokenize


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One use of a variable: `sql[start:end]` is `{name:type_text}`; `line` counts from 1."""

    name: str
    type_text: str
    start: int
    end: int
    line: int


def placeholders(sql: str) -> tuple[Placeholder, ...]:
    """Every placeholder, in order; none in strings, comments and quoted names."""
    return tuple(read_placeholder(token) for token in tokenize(sql) if token.kind is Kind.PLACEHOLDER)


def read_placeholder(token: Token) -> Placeholder:
    """Name and type of a placeholder token; the type without comments and outer spaces."""
    inner = tokenize(token.text[1:-1])
    words = [t for t in inner if t.kind is not Kind.COMMENT]
    name = next(index for index, t in enumerate(words) if t.kind is Kind.WORD)
    colon = next(index for index, t in enumerate(words) if t.text == ":")
    type_text = "".join(t.text for t in words[colon + 1 :]).strip()
    return Placeholder(words[name].text, type_text, token.start, token.end, token.line)
