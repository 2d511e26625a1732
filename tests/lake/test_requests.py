"""Requests left in the lake: the same asked twice is one, and what is published afterwards answers them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from endpoints.lake.publish import Attempt, Lake
from endpoints.lake.requests import KEPT, Request, Requests, results, state

DAYS = ("2026-01-01", "2026-01-02")
Publish = Callable[..., Any]


@pytest.fixture
def requests(lake: Lake) -> Requests:
    return Requests(lake)


def ask(requests: Requests, *keys: str, fingerprint: str = "f1", by: Any = "api") -> Request:
    return requests.leave("usage", 1, fingerprint, keys or DAYS, by=by, asked_by="ops")


def progress(lake: Lake, request: Request) -> tuple[str, list[str]]:
    made = results(request, lake.head("usage", 1))
    return state(request, made), [result.state for result in made]


def test_a_request_is_found_and_comes_back_as_it_was(requests: Requests) -> None:
    request = ask(requests)
    assert (request.partitions, request.base, request.by) == (DAYS, 0, "api")
    assert list(requests.open()) == [request]
    assert requests.find(request.id) == request


def test_the_same_asked_again_is_the_same_request_until_it_is_done(
    lake: Lake, requests: Requests, publish: Publish
) -> None:
    first = ask(requests)
    publish(lake, {DAYS[0]: [1]}, minute=1)
    assert ask(requests) == ask(requests, *reversed(DAYS)) == first
    others = {ask(requests, DAYS[0]).id, ask(requests, fingerprint="f2").id, ask(requests, by="cli").id}
    assert len(others | {first.id}) == 4
    requests.close(first, {})
    assert ask(requests).id != first.id


def test_many_at_once_ask_for_one(disk: Lake) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda _: ask(Requests(disk)).id, range(16)))
    assert len(set(asked)) == 1
    assert len(list(Requests(disk).open())) == 1


def test_what_was_given_up_without_an_attempt_can_be_asked_anew(requests: Requests) -> None:
    first = ask(requests)
    requests.close(first, dict.fromkeys(DAYS, "it is gone"))
    second = ask(requests)
    requests.close(second, dict.fromkeys(DAYS, "again"))
    assert len({first.id, second.id, ask(requests).id}) == 3


def test_states_follow_what_is_published_since(lake: Lake, requests: Requests, publish: Publish) -> None:
    publish(lake, {DAYS[0]: [1]}, minute=1)  # before it was asked for: does not count
    request = ask(requests)
    assert progress(lake, request) == ("queued", ["waiting", "waiting"])
    request = requests.started(request, "run-9")
    assert progress(lake, request) == ("running", ["waiting", "waiting"])
    publish(lake, {DAYS[0]: [1, 2]}, minute=2)
    assert progress(lake, request) == ("running", ["published", "waiting"])
    publish(lake, {DAYS[1]: [1]}, minute=3, fingerprint="f2")  # of another definition
    assert progress(lake, request) == ("running", ["published", "waiting"])
    publish(lake, {DAYS[1]: [1]}, minute=4)
    assert progress(lake, request) == ("published", ["published", "published"])
    requests.close(request, {})
    done = requests.find(request.id)
    assert done is not None
    publish(lake, {DAYS[0]: [1]}, minute=5, fingerprint="f2")
    assert progress(lake, done) == ("published", ["published", "published"])


def test_a_failed_partition_leaves_the_good_ones(
    lake: Lake, requests: Requests, publish: Publish, begin: Callable[..., Attempt]
) -> None:
    request = requests.started(ask(requests), "run")
    begin(lake, DAYS[1]).fail("breached", "total: 3 NULLs")
    publish(lake, {DAYS[0]: [1]}, minute=1)
    assert progress(lake, request) == ("running", ["published", "failed"])  # it may be tried again
    requests.close(request, {DAYS[1]: "total: 3 NULLs"})
    done = requests.find(request.id)
    assert done is not None
    assert progress(lake, done) == ("failed", ["published", "failed"])
    good, bad = results(done, lake.head("usage", 1))
    assert (good.rows, good.error, bad.error) == (1, None, "total: 3 NULLs")
    assert list(requests.open()) == []


@pytest.mark.parametrize("text", ["", "x", "0" * 16, f"{'0' * 16}-1", "../../_keys/a", f"{'0' * 16}-1/.."])
def test_what_was_never_asked_is_not_found(requests: Requests, text: str) -> None:
    assert requests.find(text) is None


def test_what_is_old_or_done_is_tidied_away(lake: Lake, requests: Requests) -> None:
    done, waiting = ask(requests), ask(requests, DAYS[0])
    requests.close(done, {})
    requests.started(done, "late")  # one that did not know writes it again
    requests.tidy(datetime.now(UTC))
    assert [request.id for request in requests.open()] == [waiting.id]
    assert requests.find(done.id) is not None
    requests.tidy(datetime.now(UTC) + KEPT + timedelta(minutes=1))
    assert not list(lake.store.list("_requests"))


def test_an_object_that_is_no_request_is_passed_over(lake: Lake, requests: Requests) -> None:
    lake.store.put("_requests/open/0123456789abcdef-0.json", b'{"format": 2}')
    request = ask(requests)
    assert list(requests.open()) == [request]
    assert replace(request, run_id="r") == requests.started(request, "r")
