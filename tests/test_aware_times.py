"""Importing pandera must not change what pyarrow makes of a time (it sets PYARROW_IGNORE_TIMEZONE)."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
{imports}
from datetime import datetime
from zoneinfo import ZoneInfo
import pyarrow as pa
time = datetime(2026, 1, 1, 5, 30, tzinfo=ZoneInfo("Asia/Kolkata"))
print(pa.array([time], pa.timestamp("ms", "UTC"))[0])
"""


@pytest.mark.parametrize(
    "imports", ["import pandera.polars\nimport endpoints", "import endpoints\nimport pandera.polars"]
)
def test_the_instant_is_kept(imports: str) -> None:
    code = CODE.format(imports=imports)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "2026-01-01 00:00:00+00:00"
