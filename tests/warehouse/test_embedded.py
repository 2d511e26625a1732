"""Embedded ClickHouse: the folder's tables, and what its worker processes may and may not do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endpoints.errors import BadQuery, OverLimit, QueryTimeout, WarehouseError, WarehouseUnavailable
from endpoints.scratch import Scratch
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.protocol import Caps, Statement

Open = Callable[..., EmbeddedWarehouse]
ENDLESS = Statement("SELECT number FROM system.numbers")


def write(path: Path, columns: dict[str, Any], schema: pa.Schema | None = None) -> None:
    """A Parquet file as a careful writer leaves it: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    pq.write_table(pa.table(columns, schema=schema), unfinished)
    unfinished.rename(path)


def types(warehouse: EmbeddedWarehouse, table: str) -> dict[str, str]:
    return {c.name: str(c.type) for c in warehouse.describe(Statement(f"SELECT * FROM {table}"))}


def workers_over(folder: Path, parent: int | None = None) -> list[psutil.Process]:
    return [child for child in psutil.Process(parent).children() if child.cmdline()[-1:] == [str(folder)]]


# Tables


def test_every_shape_of_table(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    write(tmp_path / "one.parquet", {"x": [1]})
    (tmp_path / "two.csv").write_text("x,s\n1,a\n2,b\n")
    write(tmp_path / "three" / "a.parquet", {"x": [1]})
    write(tmp_path / "three" / "b.parquet", {"x": [2, 3]})
    (tmp_path / "four").mkdir()
    (tmp_path / "four" / "a.csv").write_text("x\n1\n")
    (tmp_path / "four" / "b.csv").write_text("x\n2\n")
    (tmp_path / "five").mkdir()
    (tmp_path / "notes.txt").write_text("no table")
    (tmp_path / ".hidden.parquet").write_text("no table")
    write(tmp_path / "three" / ".hidden.parquet", {"x": [100]})
    warehouse = open_folder()
    names = ask(warehouse, "SELECT name FROM system.tables WHERE database = 'default' ORDER BY name")
    assert names.column("name").to_pylist() == [b"four", b"one", b"three", b"two"]
    for table, total in {"one": 1, "two": 3, "three": 6, "four": 3}.items():
        assert ask(warehouse, f"SELECT sum(x) AS s FROM {table}").to_pylist() == [{"s": total}]


def test_new_changed_and_gone_files_are_noticed(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    warehouse = open_folder()
    write(tmp_path / "t" / "1.parquet", {"x": [1]})
    assert ask(warehouse, "SELECT sum(x) AS s FROM t").to_pylist() == [{"s": 1}]
    write(tmp_path / "t" / "2.parquet", {"x": [10]})
    assert ask(warehouse, "SELECT sum(x) AS s FROM t").to_pylist() == [{"s": 11}]
    write(tmp_path / "t" / "3.parquet", {"x": [100], "y": ["new"]})
    assert types(warehouse, "t") == {"x": "Int64", "y": "Nullable(String)"}
    write(tmp_path / "t" / "1.parquet", {"x": [1000], "y": ["old"]})
    (tmp_path / "t" / "2.parquet").unlink()
    assert ask(warehouse, "SELECT sum(x) AS s, any(y) IS NULL AS n FROM t").to_pylist() == [
        {"s": 1100, "n": 0}
    ]
    assert types(warehouse, "t") == {"x": "Int64", "y": "String"}
    write(tmp_path / "late.parquet", {"x": [5]})
    assert ask(warehouse, "SELECT x FROM late").to_pylist() == [{"x": 5}]
    (tmp_path / "late.parquet").unlink()
    with pytest.raises(BadQuery, match="late"):
        ask(warehouse, "SELECT x FROM late")


def test_a_parquet_column_is_nullable_only_if_it_holds_a_null(open_folder: Open, tmp_path: Path) -> None:
    required = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    write(tmp_path / "required.parquet", {"x": [1]}, required)
    write(
        tmp_path / "optional.parquet",
        {
            "x": [1],
            "y": [
                None,
            ][:1],
            "s": ["a"],
        },
        pa.schema([("x", pa.int64()), ("y", pa.int32()), ("s", pa.string())]),
    )
    warehouse = open_folder()
    assert types(warehouse, "required") == {"x": "Int64"}
    assert types(warehouse, "optional") == {"x": "Int64", "y": "Nullable(Int32)", "s": "String"}
    pq.write_table(pa.table({"x": [1]}), tmp_path / "unknown.parquet", write_statistics=False)
    assert types(warehouse, "unknown") == {"x": "Nullable(Int64)"}


def test_parquet_types(open_folder: Open, tmp_path: Path) -> None:
    instant = pa.array([0], pa.timestamp("ms", "UTC"))
    columns = {
        "s": instant.cast(pa.timestamp("s", "UTC")),
        "ms": instant,
        "us": instant.cast(pa.timestamp("us", "UTC")),
        "naive": instant.cast(pa.timestamp("ms")),
        "d": pa.array([0], pa.date32()),
        "b": pa.array([True]),
        "dec": pa.array([Decimal(1)], pa.decimal128(20, 2)),
        "u": pa.array([1], pa.uint64()),
        "list": pa.array([["a"]]),
        "dict": pa.array(["a"]).dictionary_encode(),
    }
    write(tmp_path / "t.parquet", columns)
    assert types(open_folder(), "t") == {
        "s": "DateTime64(3, 'UTC')",
        "ms": "DateTime64(3, 'UTC')",
        "us": "DateTime64(6, 'UTC')",
        "naive": "DateTime64(3, 'UTC')",
        "d": "Date32",
        "b": "Bool",
        "dec": "Decimal(20, 2)",
        "u": "UInt64",
        "list": "Array(Nullable(String))",
        "dict": "String",
    }


def test_rows_of_nan_are_not_pruned(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    """A file's statistics say of such a row group that all its values are 0."""
    pq.write_table(pa.table({"id": [1, 2], "f": [float("nan"), 0.0]}), tmp_path / "t.parquet")
    warehouse = open_folder(tmp_path)
    assert ask(warehouse, "SELECT id FROM t WHERE f != 0")["id"].to_pylist() == [1]
    assert ask(warehouse, "SELECT id FROM t WHERE NOT (f >= 0)")["id"].to_pylist() == [1]


def test_csv_types_hold_for_every_row(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    """Types come from the first rows, unless a later one contradicts them; empty fields are NULL."""
    rows = [f"{i},{i}.5,2024-01-01 00:00:00,x,1" for i in range(30_000)]
    rows.append('30000,,2024-01-01 00:00:00,"",n/a')
    (tmp_path / "t.csv").write_text("i,f,at,s,late\n" + "\n".join(rows) + "\n")
    warehouse = open_folder()
    assert types(warehouse, "t") == {
        "i": "Int64",
        "f": "Nullable(Float64)",
        "at": "DateTime",
        "s": "String",
        "late": "String",
    }
    last = ask(warehouse, "SELECT i, f, s, late FROM t ORDER BY i DESC LIMIT 1").to_pylist()
    assert last == [{"i": 30_000, "f": None, "s": b"", "late": b"n/a"}]


@pytest.mark.parametrize(
    "name", ["with space", "back`tick", "quote'", "back\\slash", "ünï", "a.b", "select", "-- x"]
)
def test_odd_table_names(open_folder: Open, tmp_path: Path, ask: Any, name: str) -> None:
    write(tmp_path / f"{name}.parquet", {"x": [1]})
    write(tmp_path / f"{name}2" / "f'1.parquet", {"x": [2]})
    warehouse = open_folder()
    for table, x in ((name, 1), (f"{name}2", 2)):
        quoted = table.replace("\\", "\\\\").replace("`", "\\`")
        assert ask(warehouse, f"SELECT x FROM `{quoted}`").to_pylist() == [{"x": x}]


def test_a_broken_file_breaks_only_its_table(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    write(tmp_path / "good.parquet", {"x": [1]})
    (tmp_path / "bad.parquet").write_bytes(b"not Parquet")
    (tmp_path / "a{b}.parquet").write_bytes((tmp_path / "good.parquet").read_bytes())
    write(tmp_path / "twice.parquet", {"x": [1]})
    (tmp_path / "twice.csv").write_text("x\n1\n")
    warehouse = open_folder()
    assert ask(warehouse, "SELECT x FROM good").to_pylist() == [{"x": 1}]
    with pytest.raises(BadQuery, match=r"bad.parquet"):
        ask(warehouse, "SELECT x FROM bad")
    with pytest.raises(BadQuery, match="rename it"):
        ask(warehouse, "SELECT x FROM `a{b}`")
    with pytest.raises(BadQuery, match="keep one of them"):
        ask(warehouse, "SELECT x FROM twice")
    write(tmp_path / "bad.parquet", {"x": [2]})
    assert ask(warehouse, "SELECT x FROM bad").to_pylist() == [{"x": 2}]


def test_an_empty_and_a_missing_folder(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    warehouse = open_folder(tmp_path / "data")
    for use in (warehouse.ping, warehouse.server, lambda: ask(warehouse, "SELECT 1")):
        with pytest.raises(WarehouseUnavailable, match=r"ENDPOINTS_CLICKHOUSE_URL names the folder .*/data"):
            use()
    (tmp_path / "data").mkdir()
    assert ask(warehouse, "SELECT 1 AS x").to_pylist() == [{"x": 1}]


def test_a_folder_that_was_replaced(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    """A sandbox knows the folder by its inode."""
    write(tmp_path / "data" / "t.parquet", {"x": [1]})
    warehouse = open_folder(tmp_path / "data")
    assert ask(warehouse, "SELECT x FROM t").to_pylist() == [{"x": 1}]
    (tmp_path / "data").rename(tmp_path / "old")
    write(tmp_path / "data" / "t.parquet", {"x": [2]})
    assert ask(warehouse, "SELECT x FROM t").to_pylist() == [{"x": 2}]


def test_links_out_of_the_folder(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    write(tmp_path / "elsewhere" / "a.parquet", {"x": [1]})
    write(tmp_path / "elsewhere" / "b.parquet", {"x": [2]})
    data = tmp_path / "data"
    (data / "inside").mkdir(parents=True)
    warehouse = open_folder(data)
    warehouse.ping()
    (data / "file.parquet").symlink_to(tmp_path / "elsewhere" / "a.parquet")
    (data / "whole").symlink_to(tmp_path / "elsewhere")
    (data / "inside" / "b.parquet").symlink_to(tmp_path / "elsewhere" / "b.parquet")
    for table, total in {"file": 1, "whole": 3, "inside": 2}.items():
        assert ask(warehouse, f"SELECT sum(x) AS s FROM {table}").to_pylist() == [{"s": total}]


# Rows of one query never reach another


@pytest.mark.parametrize(
    ("sql", "caps"),
    [
        ("SELECT toString(number) AS secret, throwIf(number = 1000000) FROM system.numbers", {}),
        ("SELECT toString(number) AS secret, sleepEachRow(0.00002) FROM system.numbers", {"timeout": 0.5}),
        ("SELECT toString(number) AS secret FROM system.numbers", {"max_rows": 100_000}),
    ],
)
def test_rows_of_a_failed_query_do_not_leak(
    open_folder: Open, ask: Any, sql: str, caps: dict[str, Any]
) -> None:
    """chDB 4.4 puts them in front of the next result of its session; there is one worker here."""
    warehouse = open_folder()
    for _ in range(2):
        with pytest.raises(WarehouseError):
            ask(warehouse, sql, **caps)
        for _ in range(3):
            assert ask(warehouse, "SELECT 'mine' AS x").to_pylist() == [{"x": b"mine"}]


def test_a_failed_query_does_not_cost_the_worker(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    warehouse = open_folder()
    warehouse.ping()
    [before] = workers_over(tmp_path)
    for sql in ("SELECT nonsense", "SELECT throwIf(number = 100000) FROM system.numbers"):
        with pytest.raises(BadQuery):
            ask(warehouse, sql)
    with pytest.raises(OverLimit):
        ask(warehouse, "SELECT groupArray(number) FROM system.numbers", max_memory=10_000_000)
    assert [worker.pid for worker in workers_over(tmp_path)] == [before.pid]


# The sandbox


@pytest.fixture
def landlock() -> None:
    """Skips where the kernel has no Landlock."""
    probe = (
        "import sys; from pathlib import Path; from endpoints.warehouse import sandbox;"
        "sys.exit(not sandbox.enter(Path('/tmp'), Path('/tmp')))"
    )
    if subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        pytest.skip("this kernel has no Landlock")


@pytest.mark.usefixtures("landlock")
def test_a_query_reads_no_other_file(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inside.txt").write_text("fine")
    warehouse = open_folder(tmp_path / "data")
    for path in (tmp_path / "outside.txt", Path("/etc/passwd"), Path(f"/proc/{os.getpid()}/environ")):
        with pytest.raises(BadQuery, match="Permission denied"):
            ask(warehouse, f"SELECT file('{path}')")
    assert ask(warehouse, f"SELECT file('{tmp_path}/data/inside.txt') AS x").to_pylist() == [{"x": b"fine"}]


def test_a_query_writes_no_file(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    warehouse = open_folder()
    for sql in (
        f"SELECT 1 INTO OUTFILE '{tmp_path}/made.csv' FORMAT CSV",
        f"SELECT 1 INTO OUTFILE '{tmp_path}/made.csv'",
        f"INSERT INTO FUNCTION file('{tmp_path}/made.csv', CSV) SELECT 1",
        "SELECT 1 FORMAT CSV",
    ):
        with pytest.raises(BadQuery):
            ask(warehouse, sql)
    assert list(tmp_path.iterdir()) == []


def test_a_big_sort_may_use_the_disk(open_folder: Open, ask: Any) -> None:
    sql = (
        "SELECT count() AS n FROM"
        " (SELECT number FROM numbers(2000000) ORDER BY sipHash64(number) LIMIT 1900000)"
        " SETTINGS max_bytes_before_external_sort = 1000000, max_bytes_ratio_before_external_sort = 0"
    )
    assert ask(open_folder(), sql).to_pylist() == [{"n": 1_900_000}]


def test_workers_know_no_secrets(open_folder: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "s3cret-1", "ENDPOINTS_SECRET": "s3cret-2", "MY_TOKEN": "s3cret-3"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    open_folder().ping()
    [worker] = workers_over(tmp_path)
    assert set(worker.environ()) <= {
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "PATH",
        "PYTHONPATH",
        "TMPDIR",
        "TZ",
    }
    assert not any("s3cret" in part for part in worker.cmdline())


# Processes


def test_a_killed_worker_fails_its_query_only(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    warehouse = open_folder()
    with warehouse.run(ENDLESS, Caps()) as result:
        next(iter(result))
        [worker] = workers_over(tmp_path)
        worker.kill()
        with pytest.raises(WarehouseUnavailable, match="ended while the query ran"):
            for _ in result:
                pass
    assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_a_worker_killed_while_idle_is_replaced(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    warehouse = open_folder()
    warehouse.ping()
    [worker] = workers_over(tmp_path)
    worker.kill()
    psutil.wait_procs([worker], timeout=10)
    assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_a_worker_that_does_not_react_is_killed_at_the_timeout(
    open_folder: Open, tmp_path: Path, ask: Any
) -> None:
    warehouse = open_folder()
    caps = Caps(timeout=timedelta(milliseconds=1500))
    with warehouse.run(Statement("SELECT sum(sipHash64(number)) FROM system.numbers"), caps) as result:
        [worker] = workers_over(tmp_path)
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(QueryTimeout):
            for _ in result:
                pass
    assert not worker.is_running()
    assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_queries_wait_for_a_worker_and_questions_do_not(open_folder: Open, ask: Any) -> None:
    warehouse = open_folder(workers=1)
    with warehouse.run(ENDLESS, Caps()):
        with pytest.raises(WarehouseUnavailable, match="ENDPOINTS_EMBEDDED_WORKERS"):
            ask(warehouse, "SELECT 1", timeout=0.2)
        assert len(warehouse.describe(Statement("SELECT 1, 2"))) == 2
        warehouse.ping()
    assert ask(warehouse, "SELECT 42 AS x").to_pylist() == [{"x": 42}]


def test_a_slow_reader_slows_the_query_down(open_folder: Open, tmp_path: Path) -> None:
    """A result of tens of gigabytes, of which one batch is read: the rest is not piled up anywhere."""
    warehouse = open_folder()
    sql = "SELECT number, repeat(toString(number), 20) AS s FROM system.numbers LIMIT 100000000"
    with warehouse.run(Statement(sql), Caps()) as result:
        batches = iter(result)
        next(batches)
        [worker] = workers_over(tmp_path)
        for _ in range(20):
            next(batches)
            assert worker.memory_info().rss < 800_000_000


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.protocol import Caps, Statement
warehouse = EmbeddedWarehouse(Path({str(tmp_path)!r}))
result = warehouse.run(Statement("SELECT sum(sipHash64(number)) FROM system.numbers"), Caps())
print("running", flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"running\n"
        [worker] = workers_over(tmp_path, parent.pid)
        scratch = Path(worker.cwd())
        parent.kill()
        parent.wait()
    assert psutil.wait_procs([worker], timeout=20)[1] == []
    with suppress(FileNotFoundError):  # another process may have swept already
        assert not any(scratch.iterdir())
    Scratch("next").close()
    assert not scratch.exists()


def test_nothing_stays_behind(open_folder: Open, tmp_path: Path, ask: Any) -> None:
    warehouse = open_folder(workers=2)
    ask(warehouse, "SELECT 1")
    warehouse.run(ENDLESS, Caps()).close()
    warehouse.ping()
    workers = workers_over(tmp_path)
    folders = [Path(worker.cwd()) for worker in workers]
    warehouse.close()
    assert workers
    assert not any(worker.is_running() for worker in workers)
    assert not any(folder.exists() for folder in folders)


def test_closing_while_queries_run_and_wait(open_folder: Open) -> None:
    warehouse = open_folder(workers=1)
    errors: list[BaseException] = []

    def query() -> None:
        try:
            with warehouse.run(ENDLESS, Caps()) as result:
                started.set()
                for _ in result:
                    pass
        except WarehouseError as error:
            errors.append(error)

    started = threading.Event()
    threads = [threading.Thread(target=query) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(30)
    warehouse.close()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in errors] == [WarehouseUnavailable] * 3
