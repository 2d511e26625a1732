"""Live runs on a real ClickHouse 18.16: a query ends when its last caller goes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from clickhouse_driver import Client

from endpoints.warehouse.native import NativeWarehouse
from endpoints.warehouse.protocol import Caps, Statement
from serving.live import LiveRuns, Question

pytestmark = pytest.mark.clickhouse
PATIENCE = timedelta(seconds=60)


async def pay() -> None:
    """Free."""


async def until(met: Callable[[], bool | Awaitable[bool]]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.05)


def test_the_query_ends_when_every_caller_has_gone(clickhouse_url: str, tmp_path: Path) -> None:
    mark = f"n{uuid.uuid4().hex}"
    endless = Statement(f"SELECT sum(sipHash64(number)) AS {mark} FROM system.numbers")
    question = Question(
        version="endless@1",
        key=(mark,),
        statement=lambda: endless,
        caps=Caps(PATIENCE),
        limit=10,
        offset=0,
        count=None,
        keep_for=PATIENCE,
        lapses_for=timedelta(0),
        queue_for=PATIENCE,
        fresh=False,
        pay=pay,
    )
    admin = Client.from_url(clickhouse_url)
    warehouse = NativeWarehouse(clickhouse_url)

    def running() -> int:
        found = admin.execute(
            "SELECT count() FROM system.processes WHERE position(query, %(mark)s) > 0"
            " AND position(query, 'processes') = 0",
            {"mark": mark},
        )
        return int(found[0][0])

    async def leave_one_by_one() -> None:
        bytes_each = 2**20
        runs = LiveRuns(
            warehouse,
            concurrency=1,
            queue=0,
            cache_bytes=bytes_each,
            memory_bytes=bytes_each,
            spool_bytes=bytes_each,
            spool_folder=tmp_path,
        )
        callers = [asyncio.create_task(runs.fetch(question)) for _ in range(2)]
        await until(lambda: running() == 1)
        callers[0].cancel()
        await asyncio.sleep(0.5)
        assert running() == 1
        callers[1].cancel()
        await until(lambda: running() == 0)
        await until(lambda: runs.unfinished == 0)
        await runs.close()

    asyncio.run(leave_one_by_one())
    warehouse.close()
    admin.disconnect()
