"""Payloads through every way in: nothing reaches ClickHouse but the bound value, and nothing breaks.

`tests/fixtures/injection.txt` has them, one a line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from endpoints import tokens
from endpoints.query.lexer import significant, tokenize
from endpoints.types import (
    Column,
    is_variable_type,
    parse_type,
    parse_value,
    render_literal,
    show_value,
    storage_schema,
)
from endpoints.warehouse.protocol import Caps, Result, Statement
from tests.serving.asgi import Answered, Asgi, running

FILE = Path(__file__).parents[1] / "fixtures" / "injection.txt"
PAYLOADS: list[str] = [
    json.loads(line) for line in FILE.read_text().splitlines() if line and not line.startswith("#")
]
TYPES = [
    *("UInt8", "UInt64", "UInt256", "Int8", "Int128", "Float64", "Decimal(9, 2)", "Decimal(76, 10)", "Bool"),
    *("String", "FixedString(8)", "Enum8('a' = 1, 'b' = 2)", "UUID", "IPv4", "IPv6", "Date", "Date32"),
    *("DateTime", "DateTime64(3, 'UTC')", "Array(String)", "Array(UInt32)", "Array(Array(String))"),
    *("Array(Nullable(String))", "Nullable(String)", "Nullable(Date)", "LowCardinality(String)"),
]
TEXT = parse_type("String")
OPTIONS = ("version", "refresh", "limit", "offset", "format", "shape", "debug", "count", "integers")
SAY = "SELECT {text:String} AS text"


def test_there_are_enough() -> None:
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 500


@pytest.mark.parametrize("name", TYPES)
def test_a_value_of_every_type_is_in_its_domain_or_refused(name: str, real_warehouse) -> None:
    """What a payload became is written as literals that ClickHouse reads back as that very value."""
    kind = parse_type(name)
    assert is_variable_type(kind)
    values = []
    for payload in PAYLOADS:
        for raw in ([payload], [[payload]]) if kind.base.name == "Array" else (payload, [payload]):
            try:
                value = parse_value(kind, raw, timezone="UTC")
            except ValueError:
                continue
            assert parse_value(kind, show_value(kind, value), timezone="UTC") == value
            values.append(value)
    literals = [render_literal(kind, value) for value in values]
    for literal in literals:
        tokens = significant(tokenize(f"SELECT {literal} AS x"))
        assert [token.text for token in tokens][-2:] == ["AS", "x"], literal
        assert not [token for token in tokens if token.text in (";", "--")], literal
    for at in range(0, len(literals), 400):
        some = literals[at : at + 400]
        listed = ", ".join(f"tuple({literal})" for literal in some)
        sql = f"SELECT toString(tupleElement(arrayJoin([{listed}]), 1)) AS x"
        with real_warehouse.run(Statement(sql), Caps(timedelta(seconds=30))) as result:
            rows = [row for batch in result for row in batch.column(0).to_pylist()]
        assert len(rows) == len(some), "as many values as literals"
        if name == "String":
            assert [row.decode() for row in rows] == values[at : at + 400]


class Said:
    """A warehouse that runs nothing, and remembers what it was to run."""

    columns = (Column("text", TEXT),)

    def __init__(self, inner: Any) -> None:
        self.inner, self.ran, self.texts = inner, [], set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, statement: Statement, caps: Caps, *, query_id: str | None = None) -> Result:
        self.ran.append(statement)
        if not statement.sql.startswith(SAY):  # the count of rows
            return self.inner.run(statement, caps, query_id=query_id)
        return _Row(query_id or "")  # type: ignore[return-value]


class _Row:
    columns, timezone = Said.columns, "UTC"

    def __init__(self, query_id: str) -> None:
        self.query_id = query_id

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([pa.array([b"said"], pa.binary())], schema=storage_schema(self.columns))

    def __enter__(self) -> _Row:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def cancel(self) -> None:
        return None


@pytest.fixture
def said(stand) -> Said:
    stand.warehouse = Said(stand.warehouse)
    return stand.warehouse


def against(stand: Any, script: Callable[[Asgi], Awaitable[None]]) -> None:
    """Run a script against the application of a stand."""

    async def main() -> None:
        async with running(stand.app) as app:
            await script(app)

    asyncio.run(main())


def sendable(payload: str) -> bool:
    """Whether a String takes it as a caller's value: fit, and no longer than one may be."""
    return fit(payload) and len(payload.encode()) <= 8192


def fit(payload: str) -> bool:
    """Without control characters, but for tabs and ends of lines."""
    return all(char in "\t\n\r" or (char >= " " and char != "\x7f") for char in payload)


def judge(said: Said, answer: Answered, payload: str, *, taken: bool) -> None:
    """Taken: ran once, as that text bound to that value. Else refused, and nothing ran."""
    ran, said.ran[:] = list(said.ran), []
    assert answer.status < 500, (payload, answer.body)
    if not taken:
        assert answer.status >= 400, payload
        assert ran == [], payload
        return
    assert answer.status == 200, (payload, answer.body)
    (statement,) = ran
    said.texts.add(statement.sql)
    assert len(said.texts) == 1, "one text, whatever the value"
    assert statement.parameters == {"text": (TEXT, payload)}


def key_of(text: str) -> tuple[bytes, bytes]:
    return b"x-api-key", text.encode()


def test_as_a_variable(stand, said: Said) -> None:
    async def script(app: Asgi) -> None:
        key = key_of(stand.key)
        for payload in PAYLOADS:
            query = f"text={quote(payload, safe='')}"
            judge(
                said,
                await app.ask("/endpoints/say/run", query, headers=[key]),
                payload,
                taken=sendable(payload),
            )
            posted = await app.ask(
                "/endpoints/say/run", method="POST", headers=[key], body={"variables": {"text": payload}}
            )
            judge(said, posted, payload, taken=sendable(payload))

    against(stand, script)


def test_clickhouse_gives_them_back_as_they_were(stand) -> None:
    """Through real ClickHouse, as elements of one array at a time."""

    async def script(app: Asgi) -> None:
        for some in _batches([payload for payload in PAYLOADS if sendable(payload)]):
            answer = await app.ask(
                "/endpoints/list/run",
                method="POST",
                headers=[key_of(stand.key)],
                body={"variables": {"texts": some}},
            )
            assert answer.status == 200, answer.body
            assert [text for _, text in answer.json["results"]] == some

    against(stand, script)


def _batches(payloads: list[str]) -> Iterator[list[str]]:
    """Some at a time, as many as one value may hold."""
    some: list[str] = []
    for payload in payloads:
        if some and len(json.dumps([*some, payload], ensure_ascii=False).encode()) > 8192:
            yield some
            some = []
        if len(json.dumps([payload], ensure_ascii=False).encode()) <= 8192:
            some.append(payload)
    yield some


def test_as_a_pinned_value_of_a_key(stand, said: Said) -> None:
    keys = [(payload, stand.keys.create("k", pins={"text": payload})[1]) for payload in PAYLOADS]

    async def script(app: Asgi) -> None:
        for payload, key in keys:
            headers = [key_of(key)]
            answer = await app.ask("/endpoints/say/run", headers=headers)
            judge(said, answer, payload, taken=fit(payload))
            other = await app.ask("/endpoints/say/run", "text=mine", headers=headers)
            assert (other.status, other.code) == (403, "pin_conflict"), payload
            assert said.ran == []

    against(stand, script)


def test_as_another_value_than_the_pinned_one(stand, said: Said) -> None:
    _, key = stand.keys.create("acme", pins={"text": "acme"})

    async def script(app: Asgi) -> None:
        for payload in PAYLOADS:
            headers = [key_of(key)]
            got = await app.ask("/endpoints/say/run", f"text={quote(payload, safe='')}", headers=headers)
            assert (got.status, got.code) == (403, "pin_conflict"), payload
            posted = await app.ask(
                "/endpoints/say/run", method="POST", headers=headers, body={"variables": {"text": payload}}
            )
            assert (posted.status, posted.code) == (403, "pin_conflict"), payload
        assert said.ran == []

    against(stand, script)


def test_in_a_token(stand, said: Said) -> None:
    """As a pin, which is bound; as any other claim or header, which changes nothing or is refused."""
    jwk = tokens.new_signing_key("EdDSA")
    record, _ = stand.keys.create("web", signing=tokens.public_half(jwk))
    jwk["kid"] = record.id
    expires_at = datetime.now(UTC) + timedelta(hours=1)

    async def script(app: Asgi) -> None:
        async def bear(token: str, query: str = "") -> Answered:
            headers = [(b"authorization", b"Bearer " + token.encode())]
            return await app.ask("/endpoints/say/run", query, headers=headers)

        for payload in PAYLOADS:
            pinned = tokens.mint(jwk, audience="endpoints", expires_at=expires_at, pins={"text": payload})
            fits = len(payload) <= tokens.MAX_PIN and len(pinned) <= tokens.MAX_TOKEN_BYTES
            judge(said, await bear(pinned), payload, taken=fits and fit(payload))
            subject = tokens.mint(jwk, audience="endpoints", expires_at=expires_at, subject=payload)
            answer = await bear(subject, "text=x")
            judge(said, answer, "x", taken=len(payload) <= tokens.MAX_TEXT)
            wrong = [
                tokens.mint({**jwk, "kid": payload}, audience="endpoints", expires_at=expires_at),
                tokens.mint(jwk, audience=payload, expires_at=expires_at),
                tokens.mint(jwk, audience="endpoints", expires_at=expires_at, scopes=[payload]),
                tokens.mint(jwk, audience="endpoints", expires_at=expires_at, pins={payload: "x"}),
            ]
            for token in wrong:
                judge(said, await bear(token, "text=x"), payload, taken=False)

    against(stand, script)


def test_in_headers(stand, said: Said) -> None:
    async def script(app: Asgi) -> None:
        for payload in PAYLOADS:
            raw = payload.encode()
            for name, value in (
                (b"x-api-key", raw),
                (b"authorization", b"Bearer " + raw),
                (b"authorization", raw),
            ):
                judge(
                    said,
                    await app.ask("/endpoints/say/run", "text=x", headers=[(name, value)]),
                    payload,
                    taken=False,
                )
            names = (
                b"x-request-id",
                b"if-none-match",
                b"origin",
                b"user-agent",
                b"referer",
                b"accept-encoding",
            )
            harmless = [(name, raw) for name in (*names, b"x-forwarded-for", b"cookie", b"range")]
            answer = await app.ask("/endpoints/say/run", "text=x", headers=[key_of(stand.key), *harmless])
            if answer.status == 304:  # the payload was *
                said.ran.clear()
                continue
            judge(said, answer, "x", taken=True)
            for value in answer.headers.values():
                assert b"\n" not in value
                assert b"\r" not in value
            accept = await app.ask(
                "/endpoints/say/run", "text=x", headers=[key_of(stand.key), (b"accept", raw)]
            )
            assert accept.status in (200, 406), payload
            said.ran.clear()
            typed = [key_of(stand.key), (b"content-type", raw)]
            body = b'{"variables": {"text": "x"}}'
            posted = await app.ask("/endpoints/say/run", method="POST", headers=typed, body=body)
            judge(said, posted, payload, taken=False)

    against(stand, script)


def test_as_cursors_options_names_and_addresses(stand, said: Said) -> None:
    async def script(app: Asgi) -> None:
        headers = [key_of(stand.key)]
        for number, payload in enumerate(PAYLOADS):
            quoted = quote(payload, safe="")
            for option in ("cursor", OPTIONS[number % len(OPTIONS)]):  # each option gets its share
                answer = await app.ask("/endpoints/say/run", f"text=x&{option}={quoted}", headers=headers)
                if answer.status == 200:  # a whole number, `json`, `arrays`, …: an option's own value
                    said.ran.clear()
                    continue
                judge(said, answer, payload, taken=False)
            if payload not in ("text", "cursor"):
                named = await app.ask("/endpoints/say/run", f"text=x&{quoted}=1", headers=headers)
                judge(said, named, payload, taken=False)
            fields = {"variables": {"text": "x"}, "cursor": payload}
            posted = await app.ask("/endpoints/say/run", method="POST", headers=headers, body=fields)
            judge(said, posted, payload, taken=False)
            path = await app.ask(f"/endpoints/{payload}/run", "text=x", headers=headers)
            judge(said, path, payload, taken=False)
            raw = await app.ask("/endpoints/say/run", payload.encode(), headers=headers)
            assert raw.status < 500, payload
            said.ran.clear()

    against(stand, script)
