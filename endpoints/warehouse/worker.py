"""The worker process of embedded ClickHouse: `python -m endpoints.warehouse.worker DIR`.

Reads requests from standard input, answers on the descriptor that was standard output; both are framed: one
byte of kind, eight of length, then the body. One query at a time, each in a session of its own, since
chDB 4.4 puts rows of a query that failed in front of the next result of the same session. It never cancels:
chDB's `cancel()` blocks for as long as an aggregation runs, and lets a stopped result look complete. Whoever
wants a query stopped kills this process. It ends when its standard input does: it cannot outlive its parent.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import struct
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from endpoints.warehouse import sandbox
from endpoints.warehouse.tables import Tables, read_rows

HEADER = struct.Struct("!cQ")
REQUEST, STARTED, COLUMNS, BATCH, DONE, FAILED = b"Q", b"S", b"C", b"B", b"D", b"E"

# Arrow that needs no guessing on the other side: no text that may not be text, nothing packed for a pipe.
OUTPUT = "output_format_arrow_string_as_string = 0, output_format_arrow_compression_method = 'none'"

# ClickHouse 26.9 remembers which parts of a file a condition matched nowhere, and after a SEMI JOIN, whose
# filter is made while it runs, remembers it of parts that do match: later queries then lack these rows.
FORGETFUL = "use_query_condition_cache = 0"


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """The next frame, or None at the end."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    kind, length = HEADER.unpack(header)
    return kind, stream.read(length)


def write_frame(stream: BinaryIO, kind: bytes, body: bytes | memoryview = b"") -> None:
    stream.write(HEADER.pack(kind, len(body)))
    stream.write(body)
    stream.flush()


class Worker:
    """chDB in memory, with the folder's tables in one session and each query in another."""

    def __init__(self, folder: Path, out: BinaryIO) -> None:
        from chdb import session

        def query(sql: str) -> list[list[Any]]:
            return read_rows(str(self._owner.query(sql, "JSONCompactEachRow")))

        self._chdb: Any = session  # it has no types
        self._owner = self._chdb.Session()
        # For rows in hand of types that a table may not have unless one asks for it.
        suspicious = ("allow_suspicious_low_cardinality_types", "allow_suspicious_fixed_string_types")
        self._owner.query(f"SET {' = 1, '.join(suspicious)} = 1")
        self._tables = Tables(folder, query)
        self._out = out

    def answer(self, request: dict[str, Any]) -> None:
        """Run one request: STARTED, then COLUMNS, BATCH…, DONE; or FAILED at any place."""
        try:
            self._tables.refresh()
            for rows in request["rows"]:
                self._give(**rows)
            write_frame(self._out, STARTED)
            with self._chdb.Session() as session:
                self._run(session, request)
        except BrokenPipeError:
            raise
        except Exception as error:
            write_frame(self._out, FAILED, self._explain(str(error), request["describe"]).encode())
        else:
            write_frame(self._out, DONE)

    def _give(self, table: str, structure: str, path: str) -> None:
        """A table for this request, over a file of rows in hand; the next such request replaces it."""
        engine = f"File(Parquet, '{path}')"
        self._owner.query(f"CREATE OR REPLACE TABLE {table} ({structure}) ENGINE = {engine}")

    def _run(self, session: Any, request: dict[str, Any]) -> None:
        for settings in (request["settings"], f"{OUTPUT}, {FORGETFUL}, {request['caps']}, readonly = 1"):
            if settings:
                session.query(f"SET {settings}")
        described = session.query(request["describe"], "JSONCompactEachRow", params=request["parameters"])
        columns = [row[:2] for row in read_rows(str(described))]
        write_frame(self._out, COLUMNS, json.dumps(columns).encode())
        if request["sql"] is None:
            return
        with session.send_query(request["sql"], "Arrow", params=request["parameters"]) as stream:
            for chunk in stream:
                write_frame(self._out, BATCH, chunk.bytes())

    def _explain(self, message: str, sql: str) -> str:
        """What chDB says, and why a table that the query names is none."""
        broken = [(name, why) for name, why in self._tables.broken.items() if name in sql]
        return message + "".join(f" Table {name} could not be made: {why}" for name, why in broken)


def _requests(stream: BinaryIO) -> queue.SimpleQueue[dict[str, Any]]:
    """Requests as they come. Read in a thread, so that the end of the parent ends a running query too."""
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        while (frame := read_frame(stream)) is not None:
            requests.put(json.loads(frame[1]))
        shutil.rmtree(Path.cwd(), ignore_errors=True)  # what it wrote; the sandbox keeps the empty folder
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return requests


def main() -> None:
    """Serve requests until the parent goes."""
    folder = Path(sys.argv[1])
    sandbox.enter(folder, scratch=Path.cwd())  # before there are threads: those that run stay outside
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get into the frames
    requests = _requests(sys.stdin.buffer)
    worker = Worker(folder, out)
    while True:
        worker.answer(requests.get())


if __name__ == "__main__":
    main()
