"""Encoded answers shared by replicas through Redis, where making one takes longer than asking for it.

Asking takes a fraction of a millisecond on one machine and about one over a network. An answer that is found
in sorted rows in memory is made in less; one that embedded ClickHouse has to finish, or whose file has to be
fetched first, takes tens or hundreds. So only those versions are asked for whose last answer here was made
slowly, or that have not been answered here yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import suppress

import orjson

from serving.answer import Encoded
from serving.link import Away, Link

WORTH = 0.005  # seconds: what is made quicker is made again by whoever needs it
MOST_BYTES = 2**20
LIFE = 600  # seconds
KIND = "answer:1"  # raised when the form of what is kept changes
MOST_WRITES = 64  # under way; what comes then is not shared


class SharedResults:
    """Answers by the same keys as `Results`, which hold all that decides their bytes. A fault is a miss."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._quick: set[str] = set()  # fingerprints of versions that are not worth asking for
        self._writes: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        await asyncio.gather(*self._writes, return_exceptions=True)

    def asks_for(self, fingerprint: str) -> bool:
        """Whether this version is worth asking for, as far as is known here."""
        return fingerprint not in self._quick

    async def get(self, keys: tuple[Hashable, ...]) -> Encoded | None:
        """The answer that a replica has kept under one of the keys."""
        names = [self._link.name(KIND, key) for key in keys]
        try:
            found = await self._link.call(self._link.redis.mget(names))
        except Away:
            return None
        return next((answer for blob in found if blob is not None and (answer := _read(blob))), None)

    def made(self, fingerprint: str, key: Hashable, answer: Encoded, seconds: float) -> None:
        """Share an answer that took so long to make, later and if it is worth it. Neither waits nor fails."""
        if seconds < WORTH:
            self._quick.add(fingerprint)
            return
        self._quick.discard(fingerprint)
        if answer.parts is None and len(answer.body) <= MOST_BYTES and len(self._writes) < MOST_WRITES:
            task = asyncio.create_task(self._write(self._link.name(KIND, key), answer))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _write(self, name: str, answer: Encoded) -> None:
        with suppress(Away):
            await self._link.call(self._link.redis.set(name, _written(answer), ex=LIFE))


def _written(answer: Encoded) -> bytes:
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers]
    head = orjson.dumps({"headers": headers, "rows": answer.rows, "personal": answer.personal})
    return len(head).to_bytes(4, "big") + head + answer.body


def _read(blob: bytes) -> Encoded | None:
    """The answer; None where it is not whole."""
    size = int.from_bytes(blob[:4], "big")
    try:
        head = orjson.loads(blob[4 : 4 + size])
        headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"])
        answer = Encoded(blob[4 + size :], headers, head["rows"], personal=head["personal"])
    except (ValueError, KeyError, TypeError):
        return None
    return answer if dict(headers).get(b"content-length") == str(len(answer.body)).encode() else None
