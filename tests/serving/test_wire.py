"""Requests that are known by their bytes: however they come, answers are those of the long way."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import Running, Stand
from tests.serving.wires import RUN, Answer, Patient, Wire, read_answer, spy


@pytest.fixture(scope="module")
def wire(shared_stand: Stand) -> Iterator[Wire]:
    shared_stand.publish("usage@2")
    knowing = Running(shared_stand.app, Patient)
    at_once: list[Any] = []
    spy(shared_stand.services[-1].lane, "at_once", at_once)
    other = Running(shared_stand.app, Patient)
    shared_stand.services[-1].lane.at_once = lambda digest, scope: None  # type: ignore[method-assign]
    yield Wire(shared_stand, knowing, other, at_once)
    knowing.stop()
    other.stop()


def requests(wire: Wire) -> list[bytes]:
    known = wire.request()
    tag = wire.ask(known)[1][b"etag"].decode()
    return [
        known,
        wire.request(f"GET {RUN}&limit=1 HTTP/1.1"),
        wire.request(more=f"If-None-Match: {tag}\r\n"),
        wire.request(f"HEAD {RUN} HTTP/1.1"),
        wire.request("GET /endpoints/nowhere/run HTTP/1.1"),
        wire.request(f"POST {RUN.partition('?')[0]} HTTP/1.1", f"Content-Length: {len(known)}\r\n", known),
        wire.request(more="Content-Length: 0\r\n"),
        b"\r\n" + known,
        known.replace(b"X-API-Key: ep_", b"X-API-Key: eq_"),
        wire.request("GET /endpoints/numbers/run?n=3&refresh=force HTTP/1.1"),  # takes longer than the others
    ]


def test_answers_do_not_depend_on_how_requests_arrive(wire: Wire) -> None:
    sent = requests(wire)
    for request in sent[:3]:
        wire.know(request)
    expected = [wire.ask(request, wire.other) for request in sent]
    before = len(wire.at_once)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(
        st.lists(st.integers(0, len(sent) - 1), min_size=1, max_size=8),
        st.one_of(st.none(), st.just([]), st.lists(st.integers(1, 3000), max_size=4)),
    )
    def check(turns: list[int], cuts: list[int] | None) -> None:
        stream = b"".join(sent[turn] for turn in turns)
        if cuts is None:  # each head and each body by itself
            cuts = [found.end() for found in re.finditer(rb"\r\n\r\n", stream)]
        for _ in range(3):  # what has come in one piece may be known the next time
            converse(turns, stream, cuts)

    def converse(turns: list[int], stream: bytes, cuts: list[int]) -> None:
        places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        with wire.connect() as sock, sock.makefile("rb") as answers:
            for begin, end in pairwise(places):
                sock.sendall(stream[begin:end])
                time.sleep(0.002)
            for turn in turns:
                answer = read_answer(answers, bare=sent[turn].startswith(b"HEAD"))
                assert _told(answer) == _told(expected[turn]), turn

    check()
    assert len(wire.at_once) > before + 10, "some arrive alone"


def _told(answer: Answer) -> Answer:
    """But what changes with the seconds that the test takes."""
    status, headers, body = answer
    return status, {k: v for k, v in headers.items() if k != b"x-endpoint-data-age"}, body


def test_a_request_waits_for_the_one_before_it(wire: Wire) -> None:
    known, slow = wire.request(), wire.request("GET /endpoints/numbers/run?n=3&refresh=force HTTP/1.1")
    wire.know(known)
    for _ in range(5):
        with wire.connect() as sock, sock.makefile("rb") as answers:
            sock.sendall(slow)
            time.sleep(0.002)
            sock.sendall(known)
            sources = [read_answer(answers)[1][b"x-endpoint-source"] for _ in range(2)]
        assert sources == [b"live", b"asset"]


def test_a_part_of_a_request_is_not_one(wire: Wire) -> None:
    known = wire.request()
    wire.know(known)
    before = len(wire.at_once)
    with wire.connect() as sock, sock.makefile("rb") as answers:
        sock.sendall(b"GET /endpoints HTTP/1.1\r\nX-Part: ")
        time.sleep(0.05)
        sock.sendall(known)  # the rest of that header, and the key
        time.sleep(0.05)
        sock.sendall(known)
        assert b"endpoints" in read_answer(answers)[2]
        assert read_answer(answers)[1][b"x-endpoint-source"] == b"asset"
    assert len(wire.at_once) <= before + 1


def test_one_after_another_on_one_connection(wire: Wire) -> None:
    known = wire.request()
    wire.know(known)
    before = len(wire.at_once)
    with wire.connect() as sock, sock.makefile("rb") as answers:
        for _ in range(5):
            sock.sendall(known)
            assert read_answer(answers)[0] == 200
    assert len(wire.at_once) == before + 5


def test_idle_connections_are_closed_and_busy_ones_are_not(wire: Wire) -> None:
    known = wire.request()
    wire.know(known)
    with wire.connect() as sock, sock.makefile("rb") as answers:
        begun = time.monotonic()
        while time.monotonic() - begun < 2.5:  # longer than one may be idle
            sock.sendall(known)
            assert read_answer(answers)[0] == 200
            time.sleep(0.3)
        assert sock.recv(1) == b"", "closed, once it is idle"


def test_a_connection_that_is_to_close_is_closed(wire: Wire) -> None:
    before = len(wire.at_once)
    for more in ("Connection: close\r\n", "Connection: Close\r\n"):
        request = wire.request(more=more)
        for _ in range(3):
            with wire.connect() as sock:
                sock.sendall(request)
                received = b""
                while chunk := sock.recv(65536):
                    received += chunk
                assert received.startswith(b"HTTP/1.1 200")
    assert len(wire.at_once) == before
