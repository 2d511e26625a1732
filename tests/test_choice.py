"""Which partitions are meant: named ones, ranges with both ends, and what is outstanding."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from endpoints.choice import chosen, lacking
from endpoints.definition import Version, load_definitions
from endpoints.errors import InputError
from endpoints.lake.manifest import Manifest, PartitionEntry, PartitionFailure

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAYS = tuple(f"2026-01-0{day}" for day in range(1, 6))
DAILY = "column: day, by: day, start: 2026-01-01"
Define = Callable[..., Version]


@pytest.fixture
def define(tmp_path: Path) -> Define:
    def define(partitions: str | None = DAILY, **more: str) -> Version:
        folder = tmp_path / "sales"
        folder.mkdir(exist_ok=True)
        (folder / "v1.sql").write_text("SELECT day, count() AS n FROM sales GROUP BY day")
        keys = {"partitions": f"{{{partitions}}}" if partitions else "null", **more}
        said = ", ".join(f"{key}: {value}" for key, value in keys.items() if value != "null")
        (folder / "endpoint.yaml").write_text(
            f"current: 1\nversions: {{1: {{materialize: {{schedule: daily, {said}}}}}}}\n"
        )
        loaded = load_definitions(tmp_path)
        assert not loaded.problems, loaded.problems
        return loaded.version("sales")

    return define


def manifest(version: Version, *keys: str, failed: str | None = None, held: bool = False) -> Manifest:
    entry = PartitionEntry((), (), NOW, version.fingerprint, "run", "attempt", 1, 1, 1)
    failure = PartitionFailure("failed", "attempt", "run", version.fingerprint, NOW, "no")
    return Manifest(
        1,
        "sales",
        1,
        "attempt",
        "run",
        NOW,
        "published",
        version.fingerprint,
        partitions=dict.fromkeys(keys, entry),
        failures={failed: failure} if failed else {},
        held=held,
    )


def test_an_asset_in_one_piece(define: Define) -> None:
    version = define(None)
    assert chosen(version, None, NOW) == chosen(version, None, NOW, partitions=["all"]) == ("all",)
    for asked in ({"partitions": ["2026-01-01"]}, {"first": "2026-01-01"}, {"last": "2026-01-01"}):
        with pytest.raises(InputError, match=r"not (partitioned|sliced)"):
            chosen(version, None, NOW, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2026-01-02", "2026-01-03", DAYS[1:3]),
        ("2026-01-02T23:59:59+00:00", "2026-01-03T00:00", DAYS[1:3]),
        ("2026-01-04", None, DAYS[3:]),
        (None, "2026-01-02", DAYS[:2]),
        ("2025-06-01", "2027-01-01", DAYS),
        ("0001-01-01", "9999-12-31", DAYS),
    ],
)
def test_a_range_has_both_its_ends(
    define: Define, first: str | None, last: str | None, expected: tuple[str, ...]
) -> None:
    assert chosen(define(), None, NOW, first=first, last=last) == expected


def test_a_range_is_in_the_time_zone_of_the_partitions(define: Define) -> None:
    version = define(f"{DAILY}, timezone: Asia/Tokyo")
    late = "2026-01-02T20:00:00+00:00"  # the third there
    assert chosen(version, None, NOW, first=late, last=late) == ("2026-01-03",)


def test_named_partitions_come_once_and_in_order(define: Define) -> None:
    assert chosen(define(), None, NOW, partitions=[DAYS[2], DAYS[0], DAYS[2]]) == (DAYS[0], DAYS[2])


@pytest.mark.parametrize(
    ("asked", "field", "code"),
    [
        ({"partitions": ["2026-02-30"]}, "partitions", "unknown_partition"),
        ({"partitions": ["2026-01-06"]}, "partitions", "unknown_partition"),
        ({"partitions": []}, "partitions", "empty"),
        ({"partitions": [DAYS[0]], "first": DAYS[0]}, "partitions", "conflict"),
        ({"first": "soon"}, "from", "no_time"),
        ({"first": DAYS[0], "last": "01/02/2026"}, "to", "no_time"),
        ({"first": DAYS[3], "last": DAYS[1]}, "from", "empty_range"),
        ({"last": "2025-12-31"}, "to", "empty_range"),
    ],
)
def test_what_cannot_be_meant_names_its_field(
    define: Define, asked: dict[str, object], field: str, code: str
) -> None:
    with pytest.raises(InputError) as refused:
        chosen(define(), None, NOW, **asked)  # type: ignore[arg-type]
    assert [(error.field, error.code) for error in refused.value.fields] == [(field, code)]


def test_by_list_there_are_no_ranges(define: Define) -> None:
    version = define("column: shop, by: list, values: [north, south]")
    assert chosen(version, None, NOW, partitions=["south"]) == ("south",)
    with pytest.raises(InputError, match="sliced by list"):
        chosen(version, None, NOW, first="north")


def test_without_a_choice_what_is_outstanding_is_made_held_and_paused_or_not(define: Define) -> None:
    version = define(paused="true")
    known = manifest(version, *DAYS[1:], held=True)
    assert chosen(version, known, NOW) == (DAYS[0], DAYS[4])
    over = define(f"{DAILY}, end: 2026-01-03")
    with pytest.raises(InputError, match="final"):
        chosen(over, manifest(over, *DAYS[:2]), NOW)


def test_what_partitions_lack(define: Define) -> None:
    version = define()
    known = manifest(version, *DAYS[:2], failed=DAYS[1])
    assert lacking(version, known, DAYS, "missing") == DAYS[2:]
    assert lacking(version, known, DAYS, "failed") == (DAYS[1],)
    assert lacking(version, known, DAYS, "all") == lacking(version, None, DAYS, "missing") == DAYS
