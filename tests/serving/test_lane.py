"""The fast lane says what the long way would have said, to the byte; whatever has happened in between."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from limits import parse

from endpoints.usage import RunRecord
from serving.app import Api
from serving.clock import Moment
from serving.lane import REFUSED, WIRE, Lane
from serving.limits import SCOPE, Account, Rate, Standing
from serving.problems import RateSpent
from serving.results import Results
from serving.service import Service

USAGE = "/endpoints/usage/run"
REQUESTS = [
    (USAGE, "customer_id=acme"),
    (USAGE, "customer_id=acme&limit=1"),
    (USAGE, "customer_id=acme&format=csv"),
    (USAGE, "customer_id=acme&version=3"),
    (USAGE, "customer_id=acme&refresh=force"),
    (USAGE, "customer_id=bolt"),
    (USAGE, "customer_id=%62olt"),
    (USAGE, "customer_id="),
    ("/endpoints/Usage/run", "customer_id=acme"),
    ("/api/projects/7/endpoints/usage/run", "customer_id=acme"),
    ("/endpoints/careful/run", "customer_id=acme"),
    ("/endpoints/recent/run", ""),
    ("/endpoints/numbers/run", "n=3"),
    ("/endpoints/numbers/run", "n=3&refresh=force"),
    ("/endpoints/nowhere/run", ""),
]
HEADERS = [
    (),
    ((b"accept", b"text/csv"),),
    ((b"accept", b"image/png"),),
    ((b"origin", b"https://app.example.com"),),
    ((b"origin", b"https://evil.example.com"),),
    ((b"accept-encoding", b"zstd"),),
    ((b"x-request-id", b"mine-1"),),
    ((b"x-request-id", b"not mine"),),
    ((b"content-length", b"0"),),
    ((b"content-length", b"3"),),
    ((b"x-api-key", b"ep_0000000000000000_" + b"a" * 43),),
]
CHANGES = ["publish", "second", "second", "hour", "refuse", "revoke", "corrupt", "definitions"]
NEITHER = {b"server-timing"}


@dataclass
class Stage:
    """One application in this process, whose time stands still, and what a test does to it."""

    stand: Any
    runner: asyncio.Runner
    moment: Moment = field(default_factory=lambda: Moment(int(time.monotonic()), datetime.now(UTC)))
    spent: str = ""
    runs: list[RunRecord] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    tags: list[bytes] = field(default_factory=lambda: [b"*", b'W/"0"'])
    hits: int = 0

    def __post_init__(self) -> None:
        self.stand.prepare.append(self._prepare)
        self.keys["everything"] = self.stand.key
        self.make_keys()
        self.app: Api = self.stand.app
        self.stack = AsyncExitStack()
        self.runner.run(self.stack.enter_async_context(self.app.router.lifespan_context(self.app)))

    def make_keys(self) -> None:
        self.keys["revocable"] = self.stand.keys.create("revocable")[1]
        self.keys["acme"] = self.stand.keys.create("acme", pins={"customer_id": "acme"})[1]

    def _prepare(self, service: Service) -> None:
        service.clock = lambda: self.moment  # type: ignore[assignment]
        service.limits = service.records = self  # type: ignore[assignment]

    @property
    def service(self) -> Service:
        return self.stand.services[-1]

    async def admit(self, scope: Any, principal: Any) -> Account:
        rate = Rate("key", 3, 60, parse("3/minute"), b'"key"', b'"key";q=3;w=60')
        account = scope[SCOPE] = Account(principal, [(rate, Standing(not self.spent, 3, 60))])
        if self.spent == "key":
            raise RateSpent(headers={"Retry-After": "9"})
        return account

    async def run(self, scope: Any, version: Any, *, fresh: bool) -> None:
        scope[SCOPE].lines *= 2
        if self.spent == "endpoint":
            raise RateSpent(headers={"Retry-After": "7"})

    def dues(self, principal: Any, version: Any) -> tuple[()]:
        return ()

    def pay_at_once(self, scope: Any, principal: Any, dues: Any) -> bool:
        rate = Rate("key", 3, 60, parse("3/minute"), b'"key"', b'"key";q=3;w=60')
        scope[SCOPE] = Account(principal, [(rate, Standing(not self.spent, 3, 60))] * 2)
        if self.spent:
            raise RateSpent(headers={"Retry-After": "9" if self.spent == "key" else "7"})
        return True

    async def start_live(self, scope: Any) -> None:
        """Free."""

    async def close(self) -> None:
        """Nothing is open."""

    def record(self, run: RunRecord) -> None:
        self.runs.append(run)

    def again(self, run: RunRecord, at: float, duration: float) -> None:
        self.runs.append(run._replace(at=at, duration=duration))

    def change(self, what: str) -> None:
        match what:
            case "second":
                self.moment = Moment(self.moment.tick + 1, self.moment.now + timedelta(seconds=1))
            case "hour":
                self.moment = Moment(self.moment.tick + 1, self.moment.now + timedelta(minutes=61))
            case "refuse":
                self.spent = {"": "key", "key": "endpoint", "endpoint": ""}[self.spent]
            case "publish":
                self.stand.publish("usage@2")
                self.service.assets._follower.refresh()
                self.moment = Moment(self.moment.tick + 1, datetime.now(UTC))
            case "revoke":
                self.stand.keys.revoke(self.keys["revocable"].split("_")[1])
                self.make_keys()
                self.service.keys.refresh()
            case "corrupt":
                manifest = self.service.assets.manifest(self.stand.version("usage@2"))
                if manifest is not None:
                    self.service.assets.mark_corrupt(manifest, ValueError("as told by a test"))
                    self.change("second")
            case "definitions":
                self.service.loaded = type(self.service.loaded)(self.stand.definitions)

    def ask(self, scope: dict[str, Any], *, lane: bool) -> tuple[int, dict[bytes, bytes], bytes]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        bodies = iter([b""])

        async def receive() -> Any:
            for body in bodies:
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.Event().wait()  # the caller stays
            raise AssertionError

        async def go() -> bool:
            if lane:
                return await self.service.lane.answers(scope, send)
            scope.pop(REFUSED, None)
            await FastAPI.__call__(self.app, scope, receive, send)
            return True

        if not self.runner.run(go()):
            return 0, {}, b""
        names = [name for name, _ in sent[0]["headers"]]
        assert len(names) == len(set(names)), names
        headers = {name: value for name, value in sent[0]["headers"] if name not in NEITHER}
        assert headers.pop(b"x-request-id")
        return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:])

    def ask_bytes(self, scope: dict[str, Any]) -> tuple[int, dict[bytes, bytes], bytes]:
        """What a request is answered with that is known by its bytes."""
        answer = self.service.lane.at_once(scope[WIRE], {})
        assert answer is not None
        sent = [line.partition(b": ")[::2] for line in answer.lines.split(b"\r\n")[:-1]]
        assert len(sent) == len(dict(sent)), sent
        headers = {name: value for name, value in sent if name not in NEITHER}
        assert headers.pop(b"x-request-id")
        return answer.status, headers, answer.body

    def scope(
        self, path: str, query: str, key: str, headers: tuple[tuple[bytes, bytes], ...]
    ) -> dict[str, Any]:
        key_header = (b"authorization", f"Bearer {self.keys[key]}".encode())
        return {
            WIRE: hashlib.sha256(repr((path, query, key_header, headers)).encode()).digest(),
            "type": "http",
            "method": "GET",
            "path": path,
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"x"), key_header, *headers],
        }

    def compare(self, path: str, query: str, key: str, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Where the lane answers, the long way says the same: from what is kept, and made anew."""
        scope = self.scope(path, query, key, headers)
        self.runs.clear()
        fast = self.ask(dict(scope), lane=True)
        if not fast[0]:
            _, sent, _ = self.ask(dict(scope), lane=False)
            if b"etag" in sent:
                self.tags.append(sent[b"etag"])
            return
        self.hits += 1
        if b"x-request-id" not in dict(headers):
            assert self.ask_bytes(scope) == fast
        assert self.ask(dict(scope), lane=False) == fast
        results, self.service.results = self.service.results, Results(0)
        try:
            assert self.ask(dict(scope), lane=False) == fast
        finally:
            self.service.results = results
        alike = {run._replace(at=0, duration=0, cached=True) for run in self.runs}
        assert len(alike) == 1, alike


@pytest.fixture(scope="module")
def stage(shared_stand) -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        stage = Stage(shared_stand, runner)
        for key in ("careful", "recent"):
            shared_stand.publish(key)
        stage.change("publish")
        yield stage
        runner.run(stage.stack.aclose())


def test_the_lane_says_what_the_long_way_says(stage: Stage) -> None:
    requests = st.tuples(
        st.sampled_from(REQUESTS),
        st.sampled_from(["everything", "acme", "revocable"]),
        st.sampled_from(HEADERS),
    )
    conditional = st.tuples(st.sampled_from(REQUESTS[:3]), st.just("everything"), st.integers(0, 30))
    step = st.one_of(requests, conditional, st.sampled_from(CHANGES))

    @settings(
        max_examples=12,
        phases=[Phase.explicit, Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(st.lists(step, min_size=5, max_size=25))
    def steps(taken: list[Any]) -> None:
        stage.spent = ""
        for one in taken:
            if isinstance(one, str):
                stage.change(one)
                continue
            (path, query), key, headers = one
            if isinstance(headers, int):
                headers = ((b"if-none-match", stage.tags[-1 - headers % len(stage.tags)]),)
            for _ in range(3):  # made, reused, known
                stage.compare(path, query, key, headers)

    steps()
    assert stage.hits > 50


def test_what_the_lane_never_answers(stage: Stage) -> None:
    """Another's credential, two of them, none, other methods: they all go the long way."""
    stage.spent = ""
    good = stage.scope(USAGE, "customer_id=acme", "everything", ())
    for _ in range(3):
        stage.ask(dict(good), lane=False)
    assert stage.ask(dict(good), lane=True)[0] == 200
    name, value = good["headers"][1]
    for headers in (
        [],
        [(name, value[:-1] + b"?")],
        [(name, value), (name, value)],
        [(name, value), (b"x-api-key", value)],
        [(b"x-api-key", value)],
        [(name, value), (b"transfer-encoding", b"chunked")],
        [(name, value), (b"accept-encoding", b"gzip")],
    ):
        assert stage.ask({**good, "headers": headers}, lane=True)[0] == 0, headers
    for method in ("HEAD", "POST", "PUT", "OPTIONS"):
        assert stage.ask({**good, "method": method}, lane=True)[0] == 0


def test_a_revoked_key_is_not_known_any_more(stage: Stage) -> None:
    stage.spent = ""
    scope = stage.scope(USAGE, "customer_id=acme", "revocable", ())
    for _ in range(3):
        stage.ask(dict(scope), lane=False)
    assert stage.ask(dict(scope), lane=True)[0] == 200
    stage.change("revoke")
    assert stage.service.lane.at_once(scope[WIRE], {}) is None
    assert stage.ask(dict(scope), lane=True)[0] == 0
    assert stage.ask(dict(scope), lane=False)[0] == 401


def test_what_is_known_is_bounded(stage: Stage) -> None:
    stage.spent = ""
    lane = stage.service.lane = Lane(stage.service, most=10)
    for _ in range(2):  # a live run is known once its result has been used again
        stage.ask(stage.scope(USAGE, "customer_id=acme", "everything", ()), lane=False)
    for number in range(50):
        scope = stage.scope(USAGE, "customer_id=acme", "everything", ((b"accept", b"*/*;v=%d" % number),))
        stage.ask(dict(scope), lane=False)
        assert stage.ask(dict(scope), lane=True)[0] == 200
    assert len(lane) == 10
