"""Changes to a query's text by offsets. Everything else of it stays as its author wrote it, to the byte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """Put `text` in place of `sql[start:end]`; an insertion where the two are equal."""

    start: int
    end: int
    text: str


def splice(sql: str, edits: Iterable[Edit]) -> str:
    """The text with every edit made. Edits do not overlap; those at one place keep their order.

    A space goes where the new text would run into a word beside it: `AND(a)` with (a) replaced by 1.
    """
    pieces: list[str] = []
    position = 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        assert edit.start >= position, "edits overlap"
        pieces += [sql[position : edit.start], edit.text]
        position = edit.end
    pieces.append(sql[position:])
    return "".join(_parted(pieces))


def _parted(pieces: list[str]) -> Iterable[str]:
    last = ""
    for piece in pieces:
        if last and piece and _in_word(last[-1]) and _in_word(piece[0]):
            yield " "
        yield piece
        last = piece or last


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "_$"
