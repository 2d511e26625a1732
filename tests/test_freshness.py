"""Every rule of design §5, by the state it gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.definition import Limits, Materialize, Partitions, Version
from endpoints.freshness import (
    Breached,
    Failed,
    Fresh,
    FromAsset,
    FromAssetStale,
    Live,
    Missing,
    Refuse,
    Stale,
    Standing,
    due,
    resting,
    route,
    standing,
)
from endpoints.lake.manifest import Manifest, PartitionEntry, PartitionFailure

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
ALL = frozenset({"missing", "stale", "failed", "breached"})
DAYS = Partitions("t", "day", datetime(2026, 1, 1, tzinfo=UTC), refresh=2)


def version(
    *, partitions: Partitions | None = None, live_when: frozenset[str] = ALL, asset: bool = True
) -> Version:
    return Version(
        endpoint="usage",
        number=1,
        sql="SELECT 1",
        sql_file=Path("v1.sql"),
        variables={},
        freshness=HOUR,
        cache=HOUR,
        live_when=live_when,
        materialize=Materialize("hourly", "0 * * * *", partitions) if asset else None,
        contract=None,
        limits=Limits(),
        deprecated=None,
        sunset=None,
        public=False,
        clock=None,
        description=None,
        fingerprint="f1",
        lock_parts={},
        lock_fingerprint="l1",
    )


def entry(as_of: datetime, *, fingerprint: str = "f1", snapshot: int = 1) -> PartitionEntry:
    return PartitionEntry((), (), as_of, fingerprint, "run", "attempt", 10, 100, snapshot)


def failure(
    outcome: str = "failed", *, fingerprint: str = "f1", unservable: bool = False
) -> PartitionFailure:
    return PartitionFailure(outcome, "attempt", "run", fingerprint, NOON, "why", unservable)  # type: ignore[arg-type]


def manifest(partitions=None, failures=None, *, held: bool = False) -> Manifest:
    return Manifest(
        5,
        "usage",
        1,
        "a",
        "r",
        NOON,
        "published",
        "f1",
        partitions=partitions or {},
        failures=failures or {},
        held=held,
    )


def built(at: datetime, days: range) -> dict[str, PartitionEntry]:
    """Daily partitions of January, all made at `at`."""
    return {f"2026-01-{day:02}": entry(at) for day in days}


class TestUnpartitioned:
    def test_no_manifest_is_missing(self) -> None:
        assert standing(version(), None, NOON) == Standing(Missing())

    def test_younger_than_the_promise_is_fresh(self) -> None:
        assert standing(version(), manifest({"all": entry(NOON - HOUR)}), NOON) == Standing(
            Fresh(), last_refresh=NOON - HOUR, usable=True, rows=10, snapshot=1, run_id="run"
        )

    def test_older_is_stale_and_usable(self) -> None:
        age = HOUR + timedelta(milliseconds=1)
        found = standing(version(), manifest({"all": entry(NOON - age)}), NOON)
        assert found.state == Stale(age)
        assert found.usable

    @pytest.mark.parametrize(("outcome", "state"), [("failed", Failed("why")), ("breached", Breached("why"))])
    def test_the_last_try_counts_even_over_a_young_asset(
        self, outcome: str, state: Failed | Breached
    ) -> None:
        found = standing(version(), manifest({"all": entry(NOON)}, {"all": failure(outcome)}), NOON)
        assert found.state == state
        assert found.usable

    def test_a_failure_before_the_first_success_counts(self) -> None:
        found = standing(version(), manifest({}, {"all": failure()}), NOON)
        assert (found.state, found.usable, found.last_refresh) == (Failed("why"), False, None)

    @pytest.mark.parametrize("partitions", [{}, {"all": entry(NOON)}])
    def test_a_refusal_by_the_server_is_unservable(self, partitions: dict[str, PartitionEntry]) -> None:
        found = standing(version(), manifest(partitions, {"all": failure(unservable=True)}), NOON)
        assert (found.state.word, found.state.reason) == ("failed", "unservable")

    def test_another_definitions_asset_is_missing_changed(self) -> None:
        found = standing(version(), manifest({"all": entry(NOON, fingerprint="f0")}), NOON)
        assert found == Standing(Missing(changed=True))
        assert found.state.reason == "changed"

    def test_another_definitions_failure_does_not_count(self) -> None:
        found = standing(version(), manifest({"all": entry(NOON)}, {"all": failure(fingerprint="f0")}), NOON)
        assert found.state == Fresh()

    def test_held_is_fresh_whatever_its_age_and_failures(self) -> None:
        old = manifest({"all": entry(NOON - 90 * DAY)}, {"all": failure()}, held=True)
        found = standing(version(), old, NOON)
        assert found.state == Fresh(held=True)
        assert found.state.reason == "rolled_back"

    def test_what_a_held_version_has_not_got_is_missing(self) -> None:
        """No rows may be left out of an answer without a word."""
        parts = manifest(built(NOON - 5 * DAY, range(1, 10)), {"2026-01-09": failure()}, held=True)
        daily = version(partitions=DAYS)
        assert standing(daily, parts, NOON, ["2026-01-09"]).state == Fresh(held=True)
        assert standing(daily, parts, NOON, ["2026-01-09", "2026-01-10"]).state == Missing()

    def test_held_of_another_definition_is_missing(self) -> None:
        held = manifest({"all": entry(NOON, fingerprint="f0")}, held=True)
        assert standing(version(), held, NOON).state == Missing(changed=True)


class TestPartitioned:
    daily = version(partitions=DAYS)

    def test_closed_ones_stay_fresh_and_do_not_age(self) -> None:
        closed = built(datetime(2026, 1, 9, 1, tzinfo=UTC), range(1, 8))
        now = {**closed, **built(NOON, range(8, 11))}
        found = standing(self.daily, manifest(now), NOON)
        assert found.state == Fresh()
        assert found.last_refresh == NOON
        assert found.rows == 100

    def test_open_ones_age(self) -> None:
        parts = {**built(NOON, range(1, 9)), **built(NOON - 2 * HOUR, range(9, 11))}
        found = standing(self.daily, manifest(parts), NOON)
        assert found.state == Stale(2 * HOUR)
        assert found.last_refresh == NOON - 2 * HOUR

    def test_one_that_closed_after_it_was_made_still_ages(self) -> None:
        """The 8th left `refresh: 2` when the 10th began; made before that, it may lack late rows."""
        parts = {**built(NOON, range(1, 11)), **built(datetime(2026, 1, 9, 23, tzinfo=UTC), range(8, 9))}
        assert standing(self.daily, manifest(parts), NOON).state == Stale(13 * HOUR)

    def test_only_touched_partitions_count(self) -> None:
        parts = {**built(NOON, range(1, 9)), **built(NOON - 2 * HOUR, range(10, 11))}
        now = manifest(parts, {"2026-01-10": failure()})
        assert standing(self.daily, now, NOON, ["2026-01-05"]).state == Fresh()
        assert standing(self.daily, now, NOON, ["2026-01-05", "2026-01-09"]).state == Missing()
        assert standing(self.daily, now, NOON).state == Failed("why")

    def test_one_that_has_just_begun_is_covered(self) -> None:
        parts = manifest(built(datetime(2026, 1, 10, tzinfo=UTC), range(1, 10)))
        begun = datetime(2026, 1, 10, tzinfo=UTC)
        covered = standing(self.daily, parts, begun + HOUR, ["2026-01-10"])
        assert (covered.state, covered.usable) == (Fresh(), True)
        late = standing(self.daily, parts, begun + HOUR + timedelta(seconds=1), ["2026-01-10"])
        assert (late.state, late.usable) == (Missing(), False)

    def test_one_that_has_just_begun_needs_an_asset_beside_it(self) -> None:
        first = version(partitions=replace(DAYS, start=datetime(2026, 1, 10, tzinfo=UTC)))
        assert standing(first, manifest(), datetime(2026, 1, 10, 0, 1, tzinfo=UTC)).state == Missing()

    def test_partitions_that_do_not_exist_hold_no_rows_on_either_path(self) -> None:
        parts = manifest(built(NOON, range(1, 11)))
        found = standing(self.daily, parts, NOON, ["2025-12-31", "2026-01-11"])
        assert (found.state, found.usable, found.rows) == (Fresh(), True, None)

    def test_usable_needs_every_touched_partition_of_this_definition(self) -> None:
        parts = {**built(NOON, range(1, 10)), "2026-01-10": entry(NOON, fingerprint="f0")}
        found = standing(self.daily, manifest(parts), NOON)
        assert (found.state, found.usable) == (Missing(changed=True), False)

    def test_the_snapshot_is_the_newest_that_published_any_of_them(self) -> None:
        parts = {"2026-01-09": entry(NOON, snapshot=3), "2026-01-10": entry(NOON, snapshot=7)}
        assert standing(self.daily, manifest(parts), NOON, ["2026-01-09"]).snapshot == 3
        assert standing(self.daily, manifest(parts), NOON, parts).snapshot == 7

    def test_partitions_by_value_all_age(self) -> None:
        listed = version(partitions=Partitions("country", "list", values=("de", "fr")))
        parts = manifest({"de": entry(NOON), "fr": entry(NOON - 2 * HOUR)})
        assert standing(listed, parts, NOON, ["de"]).state == Fresh()
        assert standing(listed, parts, NOON).state == Stale(2 * HOUR)


class TestDue:
    daily = version(partitions=DAYS)

    def test_open_absent_failed_changed_and_not_yet_final(self) -> None:
        parts = {
            **built(NOON, range(1, 11)),
            "2026-01-02": entry(NOON, fingerprint="f0"),
            "2026-01-04": entry(datetime(2026, 1, 5, 23, tzinfo=UTC)),
        }
        del parts["2026-01-03"]
        found = due(self.daily, manifest(parts, {"2026-01-05": failure()}), NOON)
        assert found == tuple(f"2026-01-{day:02}" for day in (2, 3, 4, 5, 9, 10))

    def test_all_of_a_new_version_and_the_one_of_an_unpartitioned(self) -> None:
        assert len(due(self.daily, None, NOON)) == 10
        assert due(version(), manifest({"all": entry(NOON)}), NOON) == ("all",)

    def test_nothing_of_a_held_version(self) -> None:
        assert due(self.daily, manifest(built(NOON, range(1, 3)), held=True), NOON) == ()

    def test_what_is_not_due_is_fresh(self) -> None:
        parts = manifest(built(NOON, range(1, 11)))
        rest = {f"2026-01-{day:02}" for day in range(1, 11)} - set(due(self.daily, parts, NOON))
        assert standing(self.daily, parts, NOON + 1000 * DAY, rest).state == Fresh()


STATES = st.sampled_from(
    [
        Fresh(),
        Stale(HOUR * 2),
        Stale(HOUR * 3),
        Missing(),
        Missing(changed=True),
        Breached("why"),
        Failed("why"),
    ]
)
ORDER = ["fresh", "stale", "missing", "breached", "failed"]


def _partition(state: object, key: str) -> Manifest:
    match state:
        case Fresh():
            return manifest({key: entry(NOON)})
        case Stale(age):
            return manifest({key: entry(NOON - age)})
        case Missing(changed):
            return manifest({key: entry(NOON, fingerprint="f0")} if changed else {})
        case Breached() | Failed():
            return manifest({key: entry(NOON)}, {key: failure(state.word)})
    raise AssertionError(state)


@given(st.lists(STATES, min_size=1, max_size=6))
def test_the_state_of_many_is_the_worst_of_each(states: list) -> None:
    names = tuple(f"p{number}" for number in range(len(states)))
    asked = version(partitions=Partitions("c", "list", values=(*names, "anchor")))
    parts = [_partition(state, name) for state, name in zip(states, names, strict=True)]
    whole = manifest(
        {"anchor": entry(NOON), **{k: e for part in parts for k, e in part.partitions.items()}},
        {k: f for part in parts for k, f in part.failures.items()},
    )
    found = standing(asked, whole, NOON, names).state
    assert found.word == max((state.word for state in states), key=ORDER.index)
    assert [standing(asked, whole, NOON, [name]).state for name in names] == states
    if isinstance(found, Stale):
        assert found.age == max(state.age for state in states if isinstance(state, Stale))


NOT_FRESH = [Stale(HOUR), Missing(), Missing(changed=True), Breached("why"), Failed("why")]


class TestRoute:
    @pytest.mark.parametrize("live_when", [frozenset(), ALL])
    @pytest.mark.parametrize("held", [False, True])
    def test_fresh_is_the_asset(self, live_when: frozenset[str], held: bool) -> None:
        assert route(version(live_when=live_when), Standing(Fresh(held), usable=True)) == FromAsset()

    @pytest.mark.parametrize("usable", [False, True])
    @pytest.mark.parametrize("state", NOT_FRESH)
    def test_a_listed_word_runs_live_with_the_asset_to_fall_back_on(self, state, usable: bool) -> None:
        asked = version(live_when=frozenset({state.word}))
        assert route(asked, Standing(state, usable=usable)) == Live(fallback=usable)

    @pytest.mark.parametrize("state", NOT_FRESH)
    def test_another_is_the_old_asset_or_refused(self, state) -> None:
        asked = version(live_when=ALL - {state.word})
        assert route(asked, Standing(state, usable=True)) == FromAssetStale()
        assert route(asked, Standing(state, usable=False)) == Refuse()

    def test_a_version_without_an_asset_always_runs_live(self) -> None:
        live_only = version(asset=False)
        assert route(live_only, standing(live_only, None, NOON)) == Live(fallback=False)


class TestResting:
    def test_paused_sunset_and_held_versions_are_left_alone(self) -> None:
        paused = replace(version(), materialize=Materialize("hourly", "0 * * * *", paused=True))
        ended = replace(version(), sunset=NOON.date())
        held = manifest({"all": entry(NOON)}, held=True)
        cases = ((paused, None), (ended, None), (version(), held))
        assert [due(one, known, NOON) for one, known in cases] == [(), (), ()]
        assert [resting(one, known, NOON) for one, known in cases] == [
            "is paused by its definition",
            "is past its sunset",
            "is held: `endpoints release usage@1` ends that",
        ]
        assert resting(version(), manifest({}), NOON) is None
