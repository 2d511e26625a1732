"""Splicing: the only way in which a plan changes SQL text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from endpoints.query.lexer import significant, tokenize
from endpoints.query.plan.select import Source, Span
from endpoints.query.splice import Edit, splice


class Edits:
    """Replacements and insertions by token into one text, applied together; those at one place keep their
    order.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._edits: list[Edit] = []

    def insert_after(self, span: Span, text: str) -> None:
        """Behind the span's last token, so that a comment that follows cannot swallow it."""
        at = self._source.end(span)
        self._edits.append(Edit(at, at, text))

    def insert_before(self, span: Span, text: str) -> None:
        """In front of the span's first token."""
        at = self._source.tokens[span.first].start
        self._edits.append(Edit(at, at, text))

    def replace(self, span: Span, text: str) -> None:
        """In place of the span."""
        self._edits.append(Edit(self._source.tokens[span.first].start, self._source.end(span), text))

    def apply(self, span: Span) -> str:
        """The span's text with the edits that fall into it."""
        start, end = self._source.tokens[span.first].start, self._source.end(span)
        inside = [e for e in self._edits if start <= e.start and e.end <= end]
        return splice(
            self._source.sql[start:end], [Edit(e.start - start, e.end - start, e.text) for e in inside]
        )


def lift(source: Source, span: Span, columns: Mapping[tuple[str, ...], str], lifted: Iterable[Span]) -> str:
    """The span's text with each lifted part replaced by its column's name."""
    edits = Edits(source)
    for part in lifted:
        edits.replace(part, columns[source.same(part)])
    return edits.apply(span)


def renamed(sql: str, name: str, new: str) -> str:
    """The text with another name wherever that one stands."""
    return splice(sql, (Edit(t.start, t.end, new) for t in significant(tokenize(sql)) if t.name == name))


def quoted(name: str) -> str:
    """A name as ClickHouse reads it back whatever it holds."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
