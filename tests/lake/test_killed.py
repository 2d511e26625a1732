"""SIGKILL at many points of publishing: readers see the old snapshot or the new, whole; the next goes on."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from endpoints.lake.collect import collect
from endpoints.lake.files import FileCache
from endpoints.lake.publish import Lake
from endpoints.lake.store import Store

Order = Callable[[str], str]


@pytest.fixture
def order(lake_url: str) -> Iterator[Order]:
    """Gives one order to the publisher and returns how it ended."""
    script = Path(__file__).with_name("killed_publisher.py")
    with subprocess.Popen(
        [sys.executable, str(script), lake_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def give(text: str) -> str:
            print(text, file=stdin, flush=True)
            return stdout.readline().strip()

        yield give
        stdin.close()


class Reader(threading.Thread):
    """Reads the newest snapshot over and over while publishers die."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__()
        self.lake = Lake(Store(url))
        self.cache = FileCache(self.lake.store, folder, 10**9)
        self.done, self.error, self.reads = threading.Event(), None, 0

    def run(self) -> None:
        seen = 0
        try:
            while not self.done.is_set():
                seen = max(self.read(at_least=seen), seen)
                self.reads += 1
                self.done.wait(0.01)
        except BaseException as error:
            self.error = error

    def read(self, at_least: int) -> int:
        head = self.lake.head("usage", 1)
        if head is None:
            assert at_least == 0, "a snapshot was lost"
            return 0
        assert head.number >= at_least
        (file,) = head.files
        table = pq.read_table(self.cache.local("usage", 1, file))
        assert table.num_rows == file.rows == 3 * 65_536
        assert len(pc.unique(table.column("n"))) == 1, "rows of two attempts are mixed"
        return head.number


def test_whole_snapshots_only_however_publishers_die(order: Order, lake_url: str, tmp_path: Path) -> None:
    reader = Reader(lake_url, tmp_path / "cache")
    reader.start()
    try:
        points = 0
        while order(f"point {points}") == "killed":
            points += 1
        dice = random.Random(7)
        longest = 0.03 if reader.lake.store.root else 0.15
        ends = [order(f"after {dice.uniform(0.001, longest)}") for _ in range(20)]
    finally:
        reader.done.set()
        reader.join()
    assert reader.error is None, reader.error
    assert reader.reads > 3
    assert points >= 20
    assert "killed" in ends
    before = reader.read(at_least=0)
    assert order("never") == "done 0", "the next publisher goes on"
    assert reader.read(at_least=before + 1) == before + 1
    _leftovers_are_collected(reader)


def _leftovers_are_collected(reader: Reader) -> None:
    lake = reader.lake
    tomorrow = datetime.now(UTC) + timedelta(hours=25)
    collect(lake, "usage", 1, now=tomorrow, retention=timedelta(hours=24), keep=1)
    head = lake.head("usage", 1)
    assert head is not None
    files = [found.key for found in lake.store.list("endpoints/usage/v1/data")]
    assert files == [f"endpoints/usage/v1/{file.path}" for file in head.files]
    if lake.store.root:
        left = [path for path in (lake.store.root / "endpoints/usage/v1/data").rglob("*") if path.is_file()]
        assert len(left) == 1, "staging files are swept"
