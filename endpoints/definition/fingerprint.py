"""What makes two forms of a version the same: for its stored rows, and for its callers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final

from endpoints.definition.model import Contract, Partitions, Variable
from endpoints.query.lexer import significant, tokenize

PLAN_FORMAT: Final = 1
"""Raised when plans lay out the same query's rows differently: assets of before then count as changed."""


@lru_cache(maxsize=64)
def canonical_sql(sql: str) -> str:
    """The query's tokens, a space between: comments, layout, a closing `;` make no other query."""
    texts = [token.text for token in significant(tokenize(sql))]
    while texts and texts[-1] == ";":
        texts.pop()
    return " ".join(texts)


def rows_fingerprint(
    sql: str, variables: Mapping[str, Variable], partitions: Partitions | None, clock: str | None
) -> str:
    """Of what decides the rows an asset stores. Contract, docs, schedule and defaults do not."""
    return _digest(
        {
            "plan": PLAN_FORMAT,
            "sql": canonical_sql(sql),
            "variables": {v.name: [v.type.text, v.optional, v.bucket] for v in variables.values()},
            "partitions": _bounds(partitions) if partitions else None,
            "clock": clock,
        }
    )


def lock_parts(
    sql: str,
    variables: Mapping[str, Variable],
    contract: Contract | None,
    partitions: Partitions | None,
    clock: str | None,
) -> dict[str, str]:
    """Of each part that a released version may not change (design §3), by the word that people call it by."""
    callers_see = {
        v.name: [v.type.text, v.optional, v.bucket, v.pattern, None if v.default is None else [v.default.raw]]
        for v in variables.values()
    }
    return {
        "sql": _digest(canonical_sql(sql)),
        "clock": _digest(clock),
        "variables": _digest(callers_see),
        "contract": _digest(_plain(contract)),
        "partitions": _digest(_start(partitions)),
    }


def combined(parts: Mapping[str, str]) -> str:
    """One fingerprint of all parts."""
    return _digest(dict(parts))


def _bounds(partitions: Partitions) -> list[Any]:
    p = partitions
    return [p.column, p.by, p.start, p.end, p.timezone, p.table, list(p.values)]


def _start(partitions: Partitions | None) -> list[Any] | None:
    """What live answers are bounded by too.

    `end` may be set later; how the asset is sliced is nobody's concern.
    """
    return None if partitions is None or partitions.start is None else [partitions.column, partitions.start]


def _plain(value: object) -> Any:
    """A dataclass without what was left at its default: a field new in the model changes no fingerprint."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: _plain(v) for name, v in fields.items() if v not in (None, False, (), {})}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_json)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _json(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"no canonical form for {type(value).__name__}")
