"""Live results shared by replicas through Redis: one of them asks ClickHouse, the others take its rows.

Whoever holds the lease of a question asks; the others look for its result, and for the lease's end, a few
times a second. A lease lasts seconds and is renewed while its holder lives, so that a killed one is soon
replaced. While Redis is away, each process asks for itself.

Results lie in Redis as long as they may be reused, under names that give away no value; large ones are not
shared.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson
import pyarrow as pa

from endpoints.errors import UnsupportedType
from endpoints.rows import Rows
from endpoints.types import Column, parse_type
from serving.link import Away, Link

if TYPE_CHECKING:
    from serving.live import LiveRows, Question

log = logging.getLogger(__name__)

LEASE = 3.0
LOOK_EVERY = 0.05
MOST_BYTES = 8 * 2**20
LEAST_LIFE = timedelta(seconds=5)  # of a result, so that those who wait for it get it

_RENEW = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('pexpire',KEYS[1],ARGV[2]) end"
_RELEASE = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end"


class SharedRuns:
    """The live runs of all replicas that have the same lake and warehouse. Belongs to the event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def run(self, question: Question, ask: Callable[[], Awaitable[LiveRows]]) -> LiveRows:
        """What another replica has found or is about to find, else what `ask` finds, for the others too."""
        token = os.urandom(8).hex()
        try:
            found = await self._wait(question, token)
        except Away:
            return await ask()
        if found is not None:
            return found
        renewing = asyncio.create_task(self._renew(question, token))
        try:
            rows = await ask()
            with suppress(Away):
                await self._publish(question, token, rows)
            return rows
        finally:
            renewing.cancel()
            with suppress(Away):
                await self._link.call(
                    self._link.redis.eval(_RELEASE, 1, self._name(question, "lease"), token)
                )

    async def _wait(self, question: Question, token: str) -> LiveRows | None:
        """A result, or None where it is ours to ask: by the lease, or after too long a wait. Away."""
        result, lease = self._name(question, "result"), self._name(question, "lease")
        leader, end = None, time.monotonic() + 2 * question.queue_for.total_seconds()
        while time.monotonic() < end:
            blob = await self._link.call(self._link.redis.get(result))
            if blob is not None and (found := _whole(blob, question, leader)) is not None:
                return found
            if await self._link.call(self._link.redis.set(lease, token, nx=True, px=int(LEASE * 1000))):
                return None
            holder = await self._link.call(self._link.redis.get(lease))
            leader = holder.decode() if holder is not None else leader
            await asyncio.sleep(LOOK_EVERY)
        return None

    async def _renew(self, question: Question, token: str) -> None:
        lease = self._name(question, "lease")
        while True:
            await asyncio.sleep(LEASE / 3)
            with suppress(Away):
                await self._link.call(self._link.redis.eval(_RENEW, 1, lease, token, int(LEASE * 1000)))

    async def _publish(self, question: Question, token: str, rows: LiveRows) -> None:
        if rows.rows.table.nbytes > MOST_BYTES:
            return
        life = max(question.keep_for, LEAST_LIFE)
        blob = await asyncio.to_thread(_written, rows, token)
        await self._link.call(self._link.redis.set(self._name(question, "result"), blob, px=life))

    def _name(self, question: Question, kind: str) -> str:
        return self._link.name(f"live:{kind}", question.key)


def _written(live: LiveRows, token: str) -> bytes:
    rows = live.rows
    head = orjson.dumps(
        {
            "token": token,
            "query_id": live.query_id,
            "started": live.started.isoformat(),
            "digest": live.digest,
            "ended": time.time() - live.age(),
            "timezone": rows.timezone,
            "has_more": rows.has_more,
            "total": rows.total,
            "columns": [[column.name, str(column.type)] for column in rows.columns],
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.table.schema) as writer:
        writer.write_table(rows.table)
    return len(head).to_bytes(4, "big") + head + bytes(sink.getvalue().to_pybytes())


def _whole(blob: bytes, question: Question, leader: str | None) -> LiveRows | None:
    """The result in a blob, if it is one; anything else counts as none."""
    try:
        return _read(blob, question, leader)
    except (ValueError, KeyError, TypeError, UnsupportedType, OSError) as error:
        log.warning("what Redis has is no live result: %s", type(error).__name__)
        return None


def _read(blob: bytes, question: Question, leader: str | None) -> LiveRows | None:
    """The result in a blob, if it may be used: the one waited for, or one that may still be reused."""
    from serving.live import LiveRows

    size = int.from_bytes(blob[:4], "big")
    head = orjson.loads(blob[4 : 4 + size])
    waited_for = leader is not None and head["token"] == leader
    if question.fresh and not waited_for:
        return None
    table = pa.ipc.open_stream(pa.py_buffer(blob[4 + size :])).read_all()
    columns = tuple(Column(name, parse_type(text)) for name, text in head["columns"])
    found = LiveRows(
        Rows(columns, table, head["timezone"], head["has_more"], None, head["total"]),
        head["query_id"],
        datetime.fromisoformat(head["started"]),
        head["digest"],
        time.monotonic() - max(0.0, time.time() - head["ended"]),
        question.keep_for,
        question.lapses_for,
    )
    if waited_for:
        return found
    return replace(found, reused=True) if found.left() > 0 else None
