"""The clock of a query: with `clock: as_of` its functions that read the clock all say one moment.

Each call is replaced by a constant of the type that it has, in the time zone that it has: the server's, or
the session's, where the call names none, as ClickHouse itself reads the clock. The constant keeps the call's
text as its alias, so that columns without a name are called as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from endpoints.query.lexer import Token, significant, tokenize
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import closing

_SECOND, _DAY = "toDateTime({seconds}{more})", "toDate(toDateTime({seconds}))"
_FINE = "toDateTime64(fromUnixTimestamp64Micro(toInt64({micros})), {scale})"
_MEANS: Final = {
    "now": _SECOND,
    "nowinblock": _SECOND,
    "current_timestamp": _SECOND,
    "localtimestamp": _SECOND,
    "utctimestamp": "toDateTime({seconds}, 'UTC')",
    "utc_timestamp": "toDateTime({seconds}, 'UTC')",
    "now64": _FINE,
    "nowinblock64": _FINE,
    "today": _DAY,
    "curdate": _DAY,
    "current_date": _DAY,
    "yesterday": f"{_DAY} - 1",
}
CLOCK: Final = frozenset({*_MEANS, "localtime"})
"""Functions that read the clock, in lower case. `localtime` alone is bound to no moment: its type, Time, is
made of one in ways that settings decide.
"""
BARE: Final = frozenset({"current_date", "current_timestamp", "localtime", "localtimestamp"})
"""Those that need no brackets."""


Tokens = tuple[Token, ...]


def at_moment(sql: str, moment: datetime) -> str:
    """The query as it reads at that moment (aware; to the microsecond)."""
    tokens, edits = significant(tokenize(sql)), list[Edit]()
    for index in clock_calls(tokens):
        nested = edits and tokens[index].start < edits[-1].end
        if is_bound(tokens[index]) and not nested:
            edits.append(_edit(tokens, index, moment))
    return splice(sql, edits) if edits else sql


def clock_calls(tokens: Tokens) -> Iterator[int]:
    """The places of the functions that read the clock."""
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else None
        if _name(token) in CLOCK and (before is None or before.text != "."):
            bare = token.word.lower() in BARE and (before is None or before.word != "AS")
            if bare or _opens(tokens, index + 1):
                yield index


def is_bound(token: Token) -> bool:
    """`clock: as_of` gives this call its moment."""
    return _name(token) in _MEANS


def _edit(tokens: Tokens, index: int, moment: datetime) -> Edit:
    name, last = tokens[index], index
    written, arguments = name.text, ""
    if _opens(tokens, index + 1):
        last = closing(tokens, index + 1)
        inside = tokens[index + 2 : last]
        arguments = "".join(", " if token.text == "," else token.text for token in inside)
        written = f"{name.name}({arguments})"
    seconds = int(moment.timestamp())
    constant = _MEANS[_name(name)].format(
        seconds=seconds,
        micros=seconds * 1_000_000 + moment.microsecond,
        more=f", {arguments}" if arguments else "",
        scale=arguments or "3",
    )
    alias = written.replace("\\", "\\\\").replace("`", "\\`")
    return Edit(name.start, tokens[last].end, f"({constant} AS `{alias}`)")


def _name(token: Token) -> str:
    return token.name.lower()


def _opens(tokens: Tokens, index: int) -> bool:
    return index < len(tokens) and tokens[index].text == "(" and closing(tokens, index) < len(tokens)
