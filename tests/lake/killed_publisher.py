"""Publishes in a process of its own that dies on command: `killed_publisher.py LAKE_URL`, one order per line.

    point N      SIGKILL at the N-th point on the way: around store operations, between row groups
    after S      SIGKILL after S seconds, wherever it is
    never        publish in peace

The answer is one line, `killed` or `done`. Each order runs in a fork of this process, which has imported all
but has never touched the store, so that an order costs milliseconds.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from endpoints.lake.manifest import Server
from endpoints.lake.publish import Lake
from endpoints.lake.store import Store
from endpoints.types import Column, parse_type, storage_schema

COLUMNS = (Column("n", parse_type("UInt64")),)
SCHEMA = storage_schema(COLUMNS)
pa.array([1])  # pyarrow imports pandas on first use: here, once, and not in every fork
GROUPS = 3
GROUP_ROWS = 65_536


class Mortal(Store):
    """A store that counts what is done with it, and dies at one count."""

    left = -1

    def point(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def get(self, key: str) -> bytes | None:
        self.point()
        return super().get(key)

    def put(self, key: str, body: bytes) -> None:
        self.point()
        super().put(key, body)
        self.point()

    def put_new(self, key: str, body: bytes) -> bool:
        self.point()
        created = super().put_new(key, body)
        self.point()
        return created

    @contextmanager
    def staged(self, key: str) -> Iterator[Path]:
        self.point()
        with super().staged(key) as path:
            yield path
            self.point()
        self.point()


def publish(store: Mortal) -> None:
    attempt = Lake(store).begin("usage", 1, fingerprint="f", run_id="r")
    number = time.time_ns()
    with attempt.writer("all", COLUMNS) as writer:
        for _ in range(GROUPS):
            same = pa.repeat(pa.scalar(number, pa.uint64()), GROUP_ROWS)
            writer.write(pa.record_batch([same], schema=SCHEMA))
            store.point()
    entry = attempt.entry(writer.close(), COLUMNS, as_of=datetime.now(UTC))
    attempt.publish({"all": entry}, Server())


def obey(url: str, order: str, value: str) -> None:
    store = Mortal(url)
    if order == "point":
        store.left = int(value)
    elif order == "after":
        threading.Timer(float(value), os.kill, (os.getpid(), signal.SIGKILL)).start()
    publish(store)


def main() -> None:
    for line in sys.stdin:
        order, _, value = line.strip().partition(" ")
        child = os.fork()
        if child == 0:
            try:
                obey(sys.argv[1], order, value)
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"done {os.WEXITSTATUS(status)}", flush=True)


if __name__ == "__main__":
    main()
