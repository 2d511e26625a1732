"""Content negotiation: what of an `Accept…` header weighs most (RFC 9110, section 12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def preferred(header: str, offered: Mapping[str, T]) -> T | None:
    """What is offered under the name with the highest weight; None where nothing named is.

    Names that tie: those without a wildcard first, then in the order of `offered`.
    """
    best: tuple[float, int, int] | None = None
    chosen: T | None = None
    order = {name: -place for place, name in enumerate(offered)}
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = _weight(parameters)
        if name not in offered or weight <= 0:
            continue
        rank = (weight, -name.count("*"), order[name])
        if best is None or rank > best:
            best, chosen = rank, offered[name]
    return chosen


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
