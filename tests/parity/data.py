"""Small tables whose rows provoke: empty strings beside missing keys, NULLs, -0.0 and NaN, ties, zone
edges.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BIG = [0, 1, 2**53, 2**53 + 1, 2**64 - 1]
_TEXTS = pa.list_(pa.string())
KEYS = ["", "a", "A", "b", "ab", "ab\0", "é", "z" * 40]


def write_tables(folder: Path, seed: int, rows: int = 300) -> None:
    """`t` and `u` as Parquet in the folder, of that seed."""
    chance = random.Random(seed)
    pq.write_table(_events(chance, rows), folder / "t.parquet")
    pq.write_table(_users(chance, max(rows // 4, 1)), folder / "u.parquet")


def _events(chance: random.Random, rows: int) -> pa.Table:
    start = datetime(2026, 1, 31, 22, tzinfo=UTC)
    moments = [start + timedelta(minutes=chance.randrange(0, 6000)) for _ in range(rows)]
    several = range(rows)
    return pa.table(
        {
            "id": pa.array(several, pa.uint32()),
            "k": pa.array([chance.choice(KEYS) for _ in several], pa.string()),
            "g": pa.array([chance.choice("pqr") for _ in several], pa.string()),
            "n": pa.array([chance.choice([None, "x", "y", ""]) for _ in several], pa.string()),
            "i": pa.array([chance.randrange(-3, 4) for _ in several], pa.int32()),
            "big": pa.array([chance.choice(BIG) for _ in several], pa.uint64()),
            "m": pa.array([chance.choice([None, -1, 0, 7]) for _ in several], pa.int64()),
            "d": pa.array([moment.date() for moment in moments], pa.date32()),
            "ts": pa.array(moments, pa.timestamp("ms", "UTC")),
            "f": pa.array([chance.choice([0.0, 0.5, -1.25, float("nan")]) for _ in several], pa.float64()),
            "zero": pa.array([chance.choice([0.0, -0.0, 1.5]) for _ in several], pa.float64()),
            "x": pa.array([chance.randrange(0, 50) for _ in several], pa.int64()),
            "price": pa.array([Decimal(chance.randrange(500)) / 100 for _ in several], pa.decimal128(10, 2)),
            "flag": pa.array([chance.random() < 0.5 for _ in several], pa.bool_()),
            "tags": pa.array([chance.sample("xyz", chance.randrange(3)) for _ in several], _TEXTS),
        }
    )  # fmt: skip


def _users(chance: random.Random, rows: int) -> pa.Table:
    several = range(rows)
    days = [date(2026, 1, 1) + timedelta(days=chance.randrange(60)) for _ in several]
    return pa.table(
        {
            "k": pa.array([chance.choice([*KEYS, "only here"]) for _ in several], pa.string()),
            "plan": pa.array([chance.choice(["free", "pro"]) for _ in several], pa.string()),
            "since": pa.array(days, pa.date32()),
            "w": pa.array([chance.randrange(0, 9) for _ in several], pa.int32()),
        }
    )
