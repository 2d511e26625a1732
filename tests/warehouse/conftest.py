"""Both warehouses, and short ways to ask them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from endpoints.types import Value, parse_type, storage_schema
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.native import NativeWarehouse
from endpoints.warehouse.protocol import Caps, Statement, Warehouse

Ask = Callable[..., pa.Table]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedWarehouse]:
    """Embedded ClickHouse over an empty folder."""
    warehouse = EmbeddedWarehouse(tmp_path_factory.mktemp("data"))
    yield warehouse
    warehouse.close()


@pytest.fixture(scope="session")
def native(clickhouse_url: str) -> Iterator[NativeWarehouse]:
    """The server of `make services`: ClickHouse 18.16, whose time zone is Europe/Berlin."""
    warehouse = NativeWarehouse(clickhouse_url)
    yield warehouse
    warehouse.close()


@pytest.fixture(params=["embedded", pytest.param("native", marks=pytest.mark.clickhouse)])
def warehouse(request: pytest.FixtureRequest) -> Warehouse:
    """Each warehouse in turn."""
    chosen: Warehouse = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Callable[..., EmbeddedWarehouse]]:
    """Opens embedded ClickHouse over the test's own folder, `tmp_path`; closes it afterwards."""
    opened: list[EmbeddedWarehouse] = []

    def open_it(folder: Path = tmp_path, workers: int = 1) -> EmbeddedWarehouse:
        opened.append(EmbeddedWarehouse(folder, workers=workers))
        return opened[-1]

    yield open_it
    for warehouse in opened:
        warehouse.close()


@pytest.fixture
def ask() -> Ask:
    """`ask(warehouse, sql, max_rows=…, timeout=seconds, name=("UInt8", 1))` → all rows as a table."""
    return run


def statement(sql: str, **parameters: tuple[str, Value]) -> Statement:
    return Statement(sql, {name: (parse_type(kind), value) for name, (kind, value) in parameters.items()})


def run(
    warehouse: Warehouse,
    sql: str,
    *,
    timeout: float | None = 60,
    max_rows: int | None = None,
    max_memory: int | None = None,
    **parameters: tuple[str, Value],
) -> pa.Table:
    limit = None if timeout is None else timedelta(seconds=timeout)
    with warehouse.run(statement(sql, **parameters), Caps(limit, max_rows, max_memory)) as result:
        return pa.Table.from_batches(list(result), schema=storage_schema(result.columns))
