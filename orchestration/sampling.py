"""Values to ask a new asset for: those that its rows hold, and one that none holds.

Chosen by chance, seeded by the attempt: another try of the same rows asks for others, the same one never.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.definition.model import Variable, Version
from endpoints.errors import InputError
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import FileEntry, Manifest, PartitionEntry
from endpoints.query.bind import Bound, bind
from endpoints.query.examples import example_values
from endpoints.query.plan import Plan
from endpoints.query.plan.describe import Predicate, predicates
from endpoints.types import Value, json_values, show_value

_NEAR = 100
"""How many rows may lie between the ends of a range: rows of one key lie together."""
_STRANGERS = ("none-such", 1_999_999_999, 251, "1999-12-31", "1999-12-31T23:59:59Z")

Given = dict[str, object]


@dataclass(frozen=True, slots=True)
class Place:
    """Where values come from: for each dimension's text its value in two rows, as JSON has it."""

    first: Mapping[str, Any]
    second: Mapping[str, Any]


def samples(
    version: Version, plan: Plan, manifest: Manifest, files: FileCache, wanted: int, now: datetime
) -> Iterator[Bound]:
    """Up to `wanted` sets of values that occur, then one that does not. None that a caller could not send."""
    chance = random.Random(manifest.attempt_id)  # noqa: S311  (a sample, not a secret)
    (entry,), asked = manifest.partitions.values(), predicates(plan)
    examples = example_values(version)
    seen: set[str] = set()
    last: Given | None = None
    for place in _places(plan, manifest, entry, files, wanted if version.variables else 1, chance):
        given = {
            variable.name: value
            for variable in version.variables.values()
            for value in _chosen(variable, examples[variable.name], asked, place, chance)
        }
        bound = _bound(version, given, manifest, now)
        if bound is not None and bound.key not in seen:
            seen.add(bound.key)
            last = given
            yield bound
    if last is not None and (stranger := _stranger(version, plan, last, manifest, now)):
        yield stranger


def _places(
    plan: Plan,
    manifest: Manifest,
    entry: PartitionEntry,
    files: FileCache,
    wanted: int,
    chance: random.Random,
) -> Iterator[Place]:
    """Rows of the asset, by chance. Without dimensions, or without rows, a place that tells nothing."""
    if not plan.dimensions or not entry.rows:
        yield Place({}, {})
        return
    types = {column.name: column.type for column in entry.columns}
    texts = {dimension.column: dimension.expression for dimension in plan.dimensions}
    for number in sorted(chance.randrange(entry.rows) for _ in range(wanted)):
        rows = _rows(manifest, entry.files, number, files, list(texts))
        lines = [
            {
                text: json_values(
                    one[column].combine_chunks(), types[column], timezone=manifest.server.timezone
                )[0]
                for column, text in texts.items()
            }
            for one in (rows.slice(0, 1), rows.slice(chance.randrange(rows.num_rows), 1))
        ]
        yield Place(*lines)


def _rows(
    manifest: Manifest, entries: Sequence[FileEntry], number: int, files: FileCache, columns: list[str]
) -> pa.Table:
    """The row of that number in the asset, and some that follow it in its row group."""
    for entry in entries:
        if number < entry.rows:
            break
        number -= entry.rows
    with pq.ParquetFile(files.local(manifest.endpoint, manifest.version, entry)) as file:
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number < rows:
                return file.read_row_group(group, columns=columns).slice(number, _NEAR)
            number -= rows
    raise AssertionError("a file has the rows that its manifest says")


def _chosen(
    variable: Variable, example: Value, asked: Sequence[Predicate], place: Place, chance: random.Random
) -> Iterator[object]:
    """The variable's value, or nothing, which leaves it to its default."""
    if variable.optional and chance.random() < 0.5:
        return
    own = [p for p in asked if p.variable == variable.name and p.expression in place.first]
    if own:
        yield _fitting(variable, _end(own[0], asked, place))
    elif variable.default is None and not variable.optional:
        yield show_value(variable.type, example)


def _end(predicate: Predicate, asked: Sequence[Predicate], place: Place) -> Any:
    """Of the two rows' values the one that leaves rows between the ends of a range."""
    first, second = place.first[predicate.expression], place.second[predicate.expression]
    between = [p.variable for p in asked if p.operator == "BETWEEN" and p.expression == predicate.expression]
    upper = predicate.operator in ("<", "<=") or predicate.variable in between[1:]
    if upper or predicate.operator in (">", ">=", "BETWEEN"):
        try:
            return max(first, second) if upper else min(first, second)
        except TypeError:  # NULL
            return first
    return first


def _fitting(variable: Variable, value: Any) -> object:
    """The value as the variable takes it: an array of it for IN, an element for has()."""
    if variable.type.base.name == "Array" and not isinstance(value, list):
        return [value]
    if variable.type.base.name != "Array" and isinstance(value, list):
        return value[0] if value else None
    return value


def _stranger(version: Version, plan: Plan, given: Given, manifest: Manifest, now: datetime) -> Bound | None:
    """The values with one that does not occur in place of the first that is sought."""
    names = [d.variable for d in plan.seek if d.variable] or [v.name for v in version.variables.values()]
    name = next((name for name in names if name in given), None)
    if name is None:
        return None
    for value in (f"{given[name]}0123456789", *_STRANGERS):
        bound = _bound(version, {**given, name: value}, manifest, now)
        if bound is not None and value != given[name]:
            return bound
    return None


def _bound(version: Version, given: Given, manifest: Manifest, now: datetime) -> Bound | None:
    try:
        return bind(version, given, now=now, timezone=manifest.server.timezone)
    except InputError:
        return None  # a pattern, an enum: nobody can ask for it
