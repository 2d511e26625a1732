"""What is told of what is wrong: once when it begins, once when it is over, whatever the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from endpoints.alerts.conditions import Condition
from endpoints.alerts.incidents import Incidents, News, advance

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUIET = timedelta(hours=1)
BAD = Condition("sales", 1, "failed", "It failed.")


def looks(*seen: tuple[int, bool], grace: timedelta = timedelta(0)) -> list[tuple[int, str]]:
    """What is told at looks, each (minutes after noon, whether something is wrong)."""
    condition = Condition("sales", 1, "stale", "Old.", grace=grace)
    incidents, told = Incidents(), []
    for minute, wrong in seen:
        now = NOON + timedelta(minutes=minute)
        incidents, news = advance(incidents, [condition] if wrong else [], now, QUIET)
        told += [(minute, "begun") for _ in news.begun] + [(minute, "ended") for _ in news.ended]
    return told


def test_it_is_told_once_and_once_when_it_is_over() -> None:
    assert looks((0, True), (1, True), (90, True), (100, False), (101, False)) == [
        (0, "begun"),
        (100, "ended"),
    ]


def test_what_comes_back_within_the_quiet_period_waits_for_its_end() -> None:
    assert looks((0, True), (5, False), (10, True), (59, True), (60, True), (61, False)) == [
        (0, "begun"),
        (5, "ended"),
        (60, "begun"),
        (61, "ended"),
    ]


def test_what_came_back_and_went_again_within_the_quiet_period_is_not_told() -> None:
    assert looks((0, True), (5, False), (10, True), (20, False), (90, False)) == [(0, "begun"), (5, "ended")]


def test_some_things_are_given_time() -> None:
    grace = timedelta(minutes=30)
    assert looks((0, True), (29, True), (30, True), (31, False), grace=grace) == [
        (30, "begun"),
        (31, "ended"),
    ]
    assert looks((0, True), (10, False), (40, False), grace=grace) == []


def test_what_breaks_in_another_way_has_not_recovered() -> None:
    broken, failed = Condition("sales", 1, "contract", "A."), Condition("sales", 1, "failed", "B.")
    other = Condition("stock", 1, "failed", "C.")
    incidents, _ = advance(Incidents(), [broken, other], NOON, QUIET)
    incidents, news = advance(incidents, [failed], NOON + QUIET, QUIET)
    assert [one.condition for one in news.begun] == [failed]
    assert [one.condition for one in news.ended] == [other]
    _, news = advance(incidents, [], NOON + 2 * QUIET, QUIET)
    assert [one.condition for one in news.ended] == [failed]


def test_a_sunset_is_not_recovered_from() -> None:
    near = Condition("sales", 1, "sunset", "Soon.", about="30")
    incidents, first = advance(Incidents(), [near], NOON, QUIET)
    _, second = advance(incidents, [], NOON + QUIET, QUIET)
    assert (len(first.begun), second) == (1, News())


def test_the_time_at_which_it_began_stays() -> None:
    first = Condition("sales", 1, "failed", "A.", since=NOON - QUIET, grace=QUIET)
    later = Condition("sales", 1, "failed", "B.", since=NOON, grace=QUIET)
    incidents, _ = advance(Incidents(), [first], NOON, QUIET)
    incidents, news = advance(incidents, [later], NOON + QUIET, QUIET)
    [told] = news.begun
    assert (told.since, told.condition.what) == (NOON - QUIET, "B.")


@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=30))
def test_messages_alternate_and_are_few(steps: list[tuple[int, bool]]) -> None:
    """Of one thing: begun, ended, begun, …; at most one of each per quiet period; the last one is true."""
    minute, seen = 0, []
    for wait, wrong in steps:
        minute += wait
        seen.append((minute, wrong))
    # Looks go on: what is true then has been told in the end.
    if seen:
        seen.append((minute + 61, seen[-1][1]))
    told = looks(*seen)
    assert [word for _, word in told] == ["begun", "ended"] * (len(told) // 2) + ["begun"] * (len(told) % 2)
    starts = [at for at, word in told if word == "begun"]
    assert all(later - earlier >= 60 for earlier, later in pairwise(starts))
    if seen:
        assert bool(len(told) % 2) == seen[-1][1]
