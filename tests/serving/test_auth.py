"""Keys over HTTP: which are taken, what each may see and run, how fast they die."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from endpoints.errors import StoreUnavailable
from endpoints.keys import KeyRecord
from serving.auth import KNOWN_KEYS_LAST, KeyRing
from serving.problems import HttpProblem


def bare(client: httpx.Client, path: str, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=client.base_url) as anonymous:
        return anonymous.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_both_headers_carry_a_key_but_not_at_once(client: httpx.Client, shared_stand) -> None:
    key = shared_stand.key
    assert bare(client, "/endpoints", authorization=f"Bearer {key}").status_code == 200
    assert bare(client, "/endpoints", authorization=f"bearer  {key}").status_code == 200
    assert bare(client, "/endpoints", x_api_key=key).status_code == 200
    both = bare(client, "/endpoints", x_api_key=key, authorization=f"Bearer {key}")
    assert (both.status_code, both.json()["code"]) == (400, "two_credentials")
    twice = client.request("GET", "/endpoints", headers=[("X-API-Key", key), ("X-API-Key", key)])
    assert twice.status_code == 400


@pytest.mark.parametrize("make", [
    lambda key: {"authorization": key},
    lambda key: {"authorization": f"Basic {key}"},
    lambda key: {"authorization": "Bearer ep_nope"},
    lambda key: {"authorization": f"Bearer {key[:-1]}"},
    lambda key: {"authorization": f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}"},
    lambda key: {"authorization": f"Bearer ep_{'0' * 16}_{key[-43:]}"},
    lambda key: {"x_api_key": f"{key} {key}"},
    lambda key: {"cookie": f"key={key}"},
])  # fmt: skip
def test_what_is_not_a_key(client: httpx.Client, shared_stand, make) -> None:
    answer = bare(client, "/endpoints", **make(shared_stand.key))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert shared_stand.key not in answer.text


def test_a_key_in_the_url_is_none(client: httpx.Client, shared_stand) -> None:
    assert bare(client, f"/endpoints?api_key={shared_stand.key}").status_code == 401


def test_a_new_key_works_at_once_and_dies_in_seconds(client: httpx.Client, shared_stand) -> None:
    record, key = shared_stand.keys.create("new")
    assert bare(client, "/endpoints", x_api_key=key).status_code == 200
    shared_stand.keys.revoke(record.id)
    shared_stand.until(lambda: bare(client, "/endpoints", x_api_key=key).status_code == 401, seconds=5)


def test_scopes(client: httpx.Client, shared_stand) -> None:
    _, run_only = shared_stand.keys.create("run", scopes=("run",))
    _, read_only = shared_stand.keys.create("read", scopes=("read",))
    run = "/endpoints/numbers/run?n=1"
    assert bare(client, run, x_api_key=run_only).status_code == 200
    for path in ("/endpoints", "/endpoints/numbers", "/endpoints/nope", "/openapi.json", "/docs"):
        refused = bare(client, path, x_api_key=run_only)
        assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert bare(client, "/endpoints", x_api_key=read_only).status_code == 200
    assert bare(client, run, x_api_key=read_only).json()["code"] == "missing_scope"


def test_what_a_key_may_not_see_does_not_exist(client: httpx.Client, shared_stand) -> None:
    _, key = shared_stand.keys.create("some", endpoints=("usage", "num*"))
    names = [entry["name"] for entry in bare(client, "/endpoints", x_api_key=key).json()["endpoints"]]
    assert names == ["numbers", "usage"]
    assert list(bare(client, "/openapi.json", x_api_key=key).json()["paths"]) == [
        "/endpoints/numbers/run",
        "/endpoints/usage/run",
    ]
    assert "hidden" not in bare(client, "/docs", x_api_key=key).text
    for suffix in ("", "/run", "/versions", "/openapi.json"):
        answers = [bare(client, f"/endpoints/{name}{suffix}", x_api_key=key) for name in ("hidden", "nothin")]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
    near = bare(client, "/endpoints/hiden/run", x_api_key=key).json()["near"]
    assert near == []
    broken = bare(client, "/endpoints/broken/run", x_api_key=key)
    assert broken.status_code == 404  # not even that it is broken


def test_names_are_one_whatever_their_case(client: httpx.Client, shared_stand) -> None:
    assert client.get("/endpoints/NUMBERS/run?n=1").json()["name"] == "numbers"
    _, key = shared_stand.keys.create("case", endpoints=("Numbers",))
    assert bare(client, "/endpoints/nUmbers/run?n=1", x_api_key=key).status_code == 200


def test_pins(client: httpx.Client, shared_stand) -> None:
    _, key = shared_stand.keys.create("acme", scopes=("run",), pins={"customer_id": "acme"})
    plain = bare(client, "/endpoints/usage/run", x_api_key=key).json()
    same = bare(client, "/endpoints/usage/run?customer_id=acme", x_api_key=key).json()
    assert plain["results"] == same["results"]
    assert len(plain["results"]) == 3
    other = bare(client, "/endpoints/usage/run?customer_id=bolt", x_api_key=key)
    assert (other.status_code, other.json()["code"]) == (403, "pin_conflict")
    assert "acme" not in other.text
    without = bare(client, "/endpoints/numbers/run?n=1", x_api_key=key)
    assert (without.status_code, without.json()["code"]) == (403, "pin_not_applicable")
    assert bare(client, "/endpoints", x_api_key=key).status_code == 403


def test_an_unpinned_and_a_pinned_caller_never_share_rows(client: httpx.Client, shared_stand) -> None:
    _, key = shared_stand.keys.create("bolt", scopes=("run",), pins={"customer_id": "bolt"})
    for _ in range(2):
        acme = client.get("/endpoints/usage/run?customer_id=acme").json()["results"]
        bolt = bare(client, "/endpoints/usage/run", x_api_key=key).json()["results"]
        assert (len(acme), len(bolt)) == (3, 2)


def test_an_expired_key(client: httpx.Client, shared_stand) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=0.4)
    _, key = shared_stand.keys.create("brief", expires_at=expires_at)
    assert bare(client, "/endpoints", x_api_key=key).status_code == 200
    shared_stand.until(lambda: bare(client, "/endpoints", x_api_key=key).status_code == 401)


class Keys:
    """A key store that counts, and that can be away."""

    def __init__(self, records: list[KeyRecord]) -> None:
        self.records, self.down, self.gets = records, False, 0

    def get(self, key_id: str) -> KeyRecord | None:
        self.gets += 1
        self._answer()
        return next((record for record in self.records if record.id == key_id), None)

    def all(self) -> list[KeyRecord]:
        self._answer()
        return self.records

    def revoked(self) -> frozenset[str]:
        self._answer()
        return frozenset()

    def _answer(self) -> None:
        if self.down:
            raise StoreUnavailable("the store is away")


def sent(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-api-key", key.encode())]


def code_of(ring: KeyRing, key: str) -> str | None:
    try:
        asyncio.run(ring.authenticate(sent(key)))
    except HttpProblem as problem:
        return problem.code
    return None


def test_known_keys_outlive_the_store_for_a_while(shared_stand) -> None:
    record, key = shared_stand.keys.create("known")
    keys, time = Keys([record]), [0.0]
    ring = KeyRing(keys, monotonic=lambda: time[0])
    ring.refresh()
    keys.down = True
    time[0] = KNOWN_KEYS_LAST - 1
    ring.refresh()
    assert code_of(ring, key) is None
    time[0] = KNOWN_KEYS_LAST + 1
    assert code_of(ring, key) == "keys_unavailable"
    assert code_of(ring, "ep_" + "0" * 16 + "_" + "a" * 43) == "keys_unavailable"  # who can tell?
    keys.down = False
    ring.refresh()
    assert code_of(ring, key) is None
    ring.stop()


def test_an_unknown_id_costs_one_shared_look_up(shared_stand) -> None:
    keys = Keys([])
    ring = KeyRing(keys)
    ring.refresh()
    key = "ep_" + "1" * 16 + "_" + "a" * 43

    async def many() -> list[object]:
        calls = (ring.authenticate(sent(key)) for _ in range(50))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert {getattr(problem, "code", None) for problem in asyncio.run(many())} == {"unauthenticated"}
    assert keys.gets == 1
    assert code_of(ring, key) == "unauthenticated"
    assert keys.gets == 1
    ring.stop()


class Written:
    """A place for when keys were last used, that can be away."""

    def __init__(self) -> None:
        self.times: list[dict[str, float]] = []
        self.down = False

    def write(self, times: dict[str, float], now: datetime) -> None:
        if self.down:
            raise StoreUnavailable("no writes here")
        self.times.append(times)


def test_when_a_key_was_last_used_is_written_together(shared_stand) -> None:
    made = [shared_stand.keys.create(name) for name in ("one", "two", "idle")]
    written = Written()
    ring = KeyRing(Keys([record for record, _ in made]), last_used=written)  # type: ignore[arg-type]
    ring.refresh()
    ring.write_used()
    assert written.times == [], "nobody called"
    for _ in range(3):
        for _, key in made[:2]:
            assert code_of(ring, key) is None
    assert code_of(ring, made[2][1][:-1] + "!") == "unauthenticated"
    assert written.times == [], "not on the path of a request"
    ring.write_used()
    assert [set(times) for times in written.times] == [{made[0][0].id, made[1][0].id}]
    written.down = True
    ring.write_used()
    assert code_of(ring, made[0][1]) is None
    ring.stop()


def test_the_last_use_is_listed(serve_with) -> None:
    stand, start = serve_with()
    record, key = stand.keys.create("used")
    assert bare(start(), "/endpoints", x_api_key=key).status_code == 200
    for service in stand.services:
        service.keys.write_used()
    at = stand.keys.last_used.read()[record.id]
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
