"""Aware datetimes keep their instant, whatever else has been imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

CONVERT = """
from datetime import datetime
from zoneinfo import ZoneInfo
import pyarrow as pa
noon = datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Asia/Kolkata"))
print(pa.array([noon], pa.timestamp("ms", "UTC"))[0].as_py().isoformat())
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import endpoints.types, pandera.polars",
        "import pandera.polars, endpoints.types",
        "import endpoints.contract_schema; endpoints.contract_schema.__dict__",
    ],
)
def test_pandera_does_not_move_times(imports: str) -> None:
    """pandera sets PYARROW_IGNORE_TIMEZONE for its process, which made pyarrow drop offsets."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", imports + CONVERT], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "2026-01-01T06:30:00+00:00"
