"""Requests of a known form: read before they are parsed, answered as the long way answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from endpoints.usage import RunRecord
from serving.forms import Forms, written
from serving.problems import HttpProblem
from serving.results import Results
from serving.turns import Turns
from tests.serving.conftest import Running, Stand
from tests.serving.wires import Answer, Patient, Wire, read_answer, spy

PATHS = ["/endpoints/usage/run", "/endpoints/Usage/run", "/api/projects/7/endpoints/usage/run"]
VALUES = ["acme", "bolt", "nobody", "%62olt", "a+b", "", "%ff", "caf%C3%A9", "{x}", "a#b"]
VALUES += ["acme&customer_id=bolt", "acme&day=1", "acme;"]
OPTIONS = [
    "&version=2",
    "&version=2&limit=1",
    "&version=2&limit=2&offset=1",
    "&version=2&format=csv",
    "&version=2&limit=0",
    "&version=2&l%69mit=1",
    "&version=9",
    "",
    "&version=2&refresh=force",
    "&version=2&debug=true",
    "&version=2&nothing=1",
    "&version=2&count=true",
]
HEADERS = ["", "Accept: text/csv\r\n", "Accept-Encoding: zstd\r\n"]
HEADERS += ["X-Request-Id: mine\r\n", "If-None-Match: *\r\n"]
CHANGES = ["publish", "forget"]


_names = ("".join(letters) for letters in product("abcdefgh", repeat=7))


def unheard_of() -> str:
    """A customer that nobody has asked for, and who has no rows."""
    return next(_names)


@pytest.fixture(scope="module")
def wire(shared_stand: Stand) -> Iterator[Wire]:
    shared_stand.publish("usage@2")
    knowing, answered = Running(shared_stand.app, Patient), list[Any]()
    spy(shared_stand.services[-1].forms, "answer", answered)
    other = Running(shared_stand.app, Patient)
    shared_stand.services[-1].forms.learn = lambda digest, form: None  # type: ignore[method-assign]
    services = tuple(shared_stand.services[-2:])
    yield Wire(shared_stand, knowing, other, answered, services)
    knowing.stop()
    other.stop()


def service_of(wire: Wire) -> Any:
    return wire.services[0]


def asking(wire: Wire, value: str, key: str | None = None) -> bytes:
    request = wire.request(f"GET /endpoints/usage/run?customer_id={value}&version=2 HTTP/1.1")
    return request if key is None else request.replace(wire.stand.key.encode(), key.encode())


def same(wire: Wire, request: bytes) -> Answer:
    """What both say."""
    status, headers, body = wire.ask(request)
    again = wire.ask(request, wire.other)
    for told in (headers, again[1]):
        told.pop(b"x-endpoint-data-age", None)
    if b'"debug"' not in body:
        assert (status, headers, body) == again, request
    return status, headers, body


def test_a_form_says_what_the_long_way_says(wire: Wire) -> None:
    pinned = wire.stand.keys.create("pinned", pins={"customer_id": "acme"})[1]
    keys = st.sampled_from([*[wire.stand.key] * 8, pinned, "ep_0000000000000000_" + "a" * 43])
    often = st.sampled_from([*VALUES[:2], *(unheard_of() for _ in range(400))])
    value = st.one_of(*[often] * 3, st.sampled_from(VALUES))
    path = st.one_of(*[st.just(PATHS[0])] * 3, st.sampled_from(PATHS))
    option = st.one_of(*[st.just(OPTIONS[0])] * 3, st.sampled_from(OPTIONS[:4]), st.sampled_from(OPTIONS))
    header = st.one_of(*[st.just("")] * 4, st.sampled_from(HEADERS))
    requests = st.lists(st.tuples(path, value, option, header, keys), min_size=15, max_size=40)
    turn = st.tuples(st.sampled_from(CHANGES), requests)

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=[Phase.generate],
    )
    @given(st.lists(turn, min_size=1, max_size=3))
    def check(turns: list[Any]) -> None:
        for what, asked in turns:
            change(wire, what)
            for at, given_value, options, more, key in asked:
                request = wire.request(f"GET {at}?customer_id={given_value}{options} HTTP/1.1", more)
                same(wire, request.replace(wire.stand.key.encode(), key.encode()))

    before = len(wire.at_once)
    check()
    assert len(wire.at_once) > before + 50


def change(wire: Wire, what: str) -> None:
    """Something happens to both services."""
    if what == "publish":
        wire.stand.publish("usage@2")
    for service in wire.services:
        match what:
            case "publish":
                service.assets._follower.refresh()
            case "corrupt":
                manifest = service.assets.manifest(wire.stand.version("usage@2"))
                assert manifest is not None
                service.assets.mark_corrupt(manifest, ValueError("as told by a test"))
            case "forget":
                service.results = Results(2**20)


def learnt(wire: Wire) -> None:
    """Have the plain form known, and rows in memory."""
    change(wire, "publish")
    for _ in range(50):
        before = len(wire.at_once)
        wire.ask(asking(wire, unheard_of()))
        if len(wire.at_once) > before:
            return
    raise AssertionError("the form is never known")


def test_what_is_published_is_read_at_once(wire: Wire) -> None:
    learnt(wire)
    change(wire, "forget")
    first = same(wire, asking(wire, "acme"))
    change(wire, "publish")
    change(wire, "forget")
    assert same(wire, asking(wire, "acme"))[1][b"etag"] != first[1][b"etag"]


def test_an_asset_that_is_found_bad_is_not_read_in_the_next_second(wire: Wire) -> None:
    learnt(wire)
    change(wire, "corrupt")
    time.sleep(1.1)
    before = len(wire.at_once)
    assert same(wire, asking(wire, unheard_of()))[1][b"x-endpoint-reason"] == b"corrupt"
    assert len(wire.at_once) == before


def test_a_revoked_key_has_no_form(wire: Wire) -> None:
    key = wire.stand.keys.create("short-lived")[1]
    learnt(wire)
    before = len(wire.at_once)
    for _ in range(10):
        assert wire.ask(asking(wire, unheard_of(), key))[0] == 200
    assert len(wire.at_once) > before
    wire.stand.keys.revoke(key.split("_")[1])
    service_of(wire).keys.refresh()
    assert wire.ask(asking(wire, unheard_of(), key))[0] == 401


def test_a_rate_is_paid_once(wire: Wire) -> None:
    key = wire.stand.keys.create("slow", rate="12/hour")[1]
    learnt(wire)
    statuses = [wire.ask(asking(wire, unheard_of(), key))[0] for number in range(15)]
    assert statuses == [200] * 12 + [429] * 3


def test_runs_are_recorded_as_ever(wire: Wire) -> None:
    learnt(wire)
    runs: list[RunRecord] = []
    service = service_of(wire)
    taken, service.records.record = service.records.record, runs.append
    try:
        before = len(wire.at_once)
        for _ in range(5):
            wire.ask(asking(wire, unheard_of()))
        assert len(wire.at_once) == before + 5
        service.forms._forms.clear()
        for _ in range(5):
            wire.ask(asking(wire, unheard_of()))
            service.forms._forms.clear()
    finally:
        service.records.record = taken
    assert len(runs) == 10
    assert len({run._replace(at=0, duration=0) for run in runs}) == 1, runs


def test_requests_behind_one_wait_for_it(wire: Wire) -> None:
    learnt(wire)
    change(wire, "forget")
    several = [asking(wire, unheard_of()) for number in range(20)]
    several[7] = wire.request("GET /endpoints/numbers/run?n=3&refresh=force HTTP/1.1")
    expected = [wire.ask(request, wire.other)[2] for request in several]
    with wire.connect() as sock, sock.makefile("rb") as answers:
        for request in several:
            sock.sendall(request)
        found = [read_answer(answers)[2] for _ in several]
    assert found == expected


def test_who_hangs_up_is_not_read_for(wire: Wire) -> None:
    learnt(wire)
    service, begun = service_of(wire), list[Any]()
    take = service.turns.take

    async def slowly() -> None:
        begun.append(1)
        await asyncio.sleep(0.3)
        await take()

    service.turns.take = slowly
    before = len(wire.at_once)
    try:
        with wire.connect() as sock:
            sock.sendall(asking(wire, unheard_of()))
            while not begun:
                time.sleep(0.01)
        time.sleep(0.6)
    finally:
        service.turns.take = take
    assert len(wire.at_once) == before


def test_what_waits_is_answered_before_the_end(shared_stand: Stand) -> None:
    shared_stand.publish("usage@2")
    running, answered = Running(shared_stand.app, Patient), list[Any]()
    service = shared_stand.services[-1]
    spy(service.forms, "answer", answered)
    wire = Wire(shared_stand, running, running, answered)
    for _ in range(20):
        wire.ask(asking(wire, unheard_of()))
    assert answered
    take, begun = service.turns.take, list[Any]()

    async def slowly() -> None:
        begun.append(1)
        await asyncio.sleep(0.5)
        await take()

    service.turns.take = slowly  # type: ignore[method-assign]
    before = len(answered)
    with wire.connect() as sock, sock.makefile("rb") as answers:
        sock.sendall(asking(wire, unheard_of()))
        while not begun:
            time.sleep(0.01)
        running.stop()
        assert read_answer(answers)[0] == 200
        assert sock.recv(1) == b""
    assert len(answered) == before + 1


def test_a_failure_goes_the_long_way(wire: Wire) -> None:
    learnt(wire)
    service = service_of(wire)
    answer, service.forms.answer = service.forms.answer, lambda request, scope: 1 / 0
    try:
        assert wire.ask(asking(wire, unheard_of()))[0] == 200
    finally:
        service.forms.answer = answer


def test_forms_are_bounded(wire: Wire) -> None:
    learnt(wire)
    service = service_of(wire)
    forms, service.forms = service.forms, Forms(service, most=5)
    try:
        for number in range(40):
            request = wire.request(
                f"GET /endpoints/usage/run?customer_id={unheard_of()}&version=2 HTTP/1.1",
                f"X-Some: {number // 2}\r\n",
            )
            assert wire.ask(request)[0] == 200
        assert len(service.forms) == 5
    finally:
        service.forms = forms


def test_what_comes_once_is_not_learnt(wire: Wire) -> None:
    learnt(wire)
    before = len(service_of(wire).forms)
    for number in range(20):
        traced = asking(wire, unheard_of()).replace(b"Host: x", b"Host: x\r\nTraceparent: 00-%d" % number)
        assert wire.ask(traced)[0] == 200
    assert len(service_of(wire).forms) == before


@pytest.mark.parametrize(
    "target", ["/a?b=\x00", "/a?b=c#d", "/a?b= c", "/a?b=\xff", '/a?b="', "/a?b=<c>", "/a?b={c}", "/a?b=c^"]
)
def test_what_parsers_may_differ_about_has_no_form(target: str) -> None:
    assert written(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1")) is None


def test_options_belong_to_the_form_and_variables_do_not() -> None:
    def form(query: str) -> bytes:
        found = written(f"GET /e/run?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert found is not None
        return found.form

    assert form("a=1&limit=5") == form("limit=5&a=2&b=3")
    assert form("a=1&limit=5") != form("a=1&limit=6")
    assert form("a=1") != form("a=1&version=2")


def test_turns_are_taken_one_between_two_looks_at_the_sockets() -> None:
    seen: list[str] = []

    async def run(turns: Turns, name: str) -> None:
        await turns.take()
        seen.append(name)

    async def main() -> None:
        turns, loop = Turns(), asyncio.get_running_loop()
        tasks = [asyncio.create_task(run(turns, str(number))) for number in range(4)]

        def look() -> None:
            seen.append("look")
            if not all(task.done() for task in tasks):
                loop.call_soon(look)

        await asyncio.sleep(0)
        tasks[1].cancel()
        loop.call_soon(look)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    names = [name for name in seen if name != "look"]
    assert names == ["0", "2", "3"]
    between = "".join("-" if name == "look" else name for name in seen)
    assert "23" not in between, between


def test_turns_outlive_a_loop() -> None:
    turns = Turns()

    async def take() -> None:
        await asyncio.wait_for(turns.take(), 5)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(take())  # ends before the turn does
    loop.close()
    asyncio.run(take())


def test_a_problem_by_its_form_is_told_the_long_way(wire: Wire) -> None:
    learnt(wire)
    service = service_of(wire)
    read = service.assets.read_at_once

    def refuse(*given: Any) -> Any:
        raise HttpProblem("not_found")

    service.assets.read_at_once = refuse
    try:
        assert wire.ask(asking(wire, unheard_of()))[0] == 404
    finally:
        service.assets.read_at_once = read
