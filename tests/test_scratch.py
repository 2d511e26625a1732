"""Folders of one process: nothing of a killed one stays, nothing of a running one goes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from endpoints.scratch import Scratch

SCRATCH = """
from endpoints.scratch import Scratch
scratch = Scratch("test")
(scratch.path / "deep").mkdir()
(scratch.path / "deep/file").write_text("half")
"""
UPLOAD = """
from endpoints.lake.store import Store
staged = Store("s3://bucket/x", {"AWS_REGION": "us-east-1", "AWS_SKIP_SIGNATURE": "true"}).staged("k")
staged.__enter__().write_text("half")
"""
DUPLICATES = """
import polars as pl
from endpoints.duplicates import DuplicateFinder
finder = DuplicateFinder(held_bytes=1)
finder.add(pl.DataFrame({"n": [1, 2]}))
"""
FINISH = """
import pyarrow as pa
from endpoints.types import Column, parse_type
from endpoints.warehouse.finish import Finisher
from endpoints.warehouse.protocol import Caps, Statement
finisher, columns = Finisher(1), [Column("n", parse_type("UInt64"))]
rows = pa.table({"n": pa.array([1], pa.uint64())})
finisher.run(Statement("SELECT n FROM __rows"), columns, rows, timezone="UTC", caps=Caps())
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def running(script: str, place: Path) -> Iterator[None]:
    """A process that has run `script`, and is killed at the end."""
    waits = "\nimport time\nprint('ready', flush=True)\ntime.sleep(600)"
    env = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen([sys.executable, "-c", script + waits], stdout=subprocess.PIPE, env=env) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("script", [SCRATCH, UPLOAD, DUPLICATES, FINISH])
def test_the_next_process_removes_what_a_killed_one_left(script: str, place: Path) -> None:
    with running(script, place):
        made = sorted(place.rglob("*"))
        assert made
        Scratch("next").close()
        assert sorted(place.rglob("*")) == made, "its owner runs"
    assert any(place.iterdir())
    end = time.monotonic() + 15
    while any(place.iterdir()):  # workers of the killed process may still be ending
        assert time.monotonic() < end, list(place.rglob("*"))
        Scratch("next").close()
        time.sleep(0.02)


def test_many_at_once_leave_each_other_alone(place: Path) -> None:
    def use(number: int) -> None:
        for _ in range(50):
            with closing(Scratch(f"n{number}")) as scratch:
                (scratch.path / "file").write_text("mine")
                assert [file.read_text() for file in scratch.path.iterdir()] == ["mine"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert not any(place.iterdir())


def test_what_is_not_ours_stays(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").touch()
    (place / "endpoints-scratch-link").symlink_to(elsewhere)
    (place / "endpoints-scratch-file").touch()
    (place / "endpoints-demo").mkdir()
    Scratch("next").close()
    assert len(list(place.iterdir())) == 3
    assert (elsewhere / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_folders_of_other_users_stay(place: Path) -> None:
    other = place / "endpoints-scratch-other"
    other.mkdir()
    os.chown(other, 65534, 65534)
    Scratch("next").close()
    assert other.exists()


def test_closing_twice_is_no_error(place: Path) -> None:
    scratch = Scratch("test")
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    scratch.close()
    scratch.close()
    assert not any(place.iterdir())
