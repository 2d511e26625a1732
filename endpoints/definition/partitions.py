"""`partitions:` → bounds as instants, each on an edge of its slices."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from endpoints.definition.document import Document, Path_
from endpoints.definition.model import Partitions
from endpoints.definition.schema import PartitionsYaml

_EDGES = {
    "hour": "a full hour, as in 2026-01-01T05:00",
    "day": "a day, as in 2026-01-31",
    "week": "a Monday, as in 2026-01-05",
    "month": "the first of a month, as in 2026-01-01",
}


def read_partitions(model: PartitionsYaml, document: Document, at: Path_) -> Partitions | None:
    """The partitions that a definition means; None, with problems in `document`, where they cannot be."""
    before = len(document.problems)
    if model.by == "list":
        for key in ("start", "end"):
            if key in model.model_fields_set:
                document.report(
                    (*at, key),
                    "bad_partitions",
                    f"{key} means nothing by list.",
                    "Remove it, or slice by time.",
                )
        if model.values is None:
            document.report(
                at, "bad_partitions", "Partitions by list need `values`.", "Add `values: [a, b]`."
            )
    else:
        if model.values is not None:
            document.report(
                (*at, "values"),
                "bad_partitions",
                "values mean nothing by time.",
                "Remove them, or write `by: list`.",
            )
        if model.start is None:
            document.report(
                at, "bad_partitions", "Partitions by time need `start`.", "Add `start: 2026-01-01`."
            )
    zone = _zone(model.timezone, document, (*at, "timezone"))
    start = _edge(model.start, model.by, zone, document, (*at, "start"))
    end = _edge(model.end, model.by, zone, document, (*at, "end"))
    if start and end and end <= start:
        document.report(
            (*at, "end"), "bad_partitions", "end is not after start: no slice is left.", "Move it."
        )
    if len(document.problems) > before:
        return None
    values = document.raw((*at, "values"), model.values) or []
    return Partitions(
        model.column, model.by, start, end, model.timezone, model.refresh, model.table, tuple(values)
    )


def _zone(name: str, document: Document, at: Path_) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        document.report(
            at, "bad_partitions", f"{name!r} is not a time zone.", "Write it as in Europe/Berlin, or UTC."
        )
        return ZoneInfo("UTC")


def _edge(text: str | None, by: str, zone: ZoneInfo, document: Document, at: Path_) -> datetime | None:
    """The instant of a bound in the zone's own time; a Problem where it is none or inside a slice."""
    if text is None or by == "list":
        return None
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        document.report(at, "bad_partitions", f"{text!r} is not a date.", f"Write {_EDGES[by]}.")
        return None
    if local.tzinfo is not None:
        message = f"{text!r} has an offset of its own."
        document.report(at, "bad_partitions", message, "Leave it out; `timezone:` says whose time is meant.")
        return None
    midnight = (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0)
    on_edge = {
        "hour": (local.minute, local.second, local.microsecond) == (0, 0, 0),
        "day": midnight,
        "week": midnight and local.weekday() == 0,
        "month": midnight and local.day == 1,
    }[by]
    if not on_edge:
        document.report(
            at, "bad_partitions", f"{text} is not where slices by {by} begin.", f"Write {_EDGES[by]}."
        )
        return None
    return local.replace(tzinfo=zone).astimezone(UTC)
