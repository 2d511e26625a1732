"""`endpoints alerts`: what is wrong, and whether messages arrive."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from endpoints.alerts.conditions import Condition
from endpoints.alerts.incidents import Incident, Incidents
from endpoints.alerts.journal import Journal, Memory
from endpoints.cli import main
from endpoints.lake.store import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".env").touch()
    (tmp_path / "endpoint_defs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list_is_what_the_sensor_saw(project: Path) -> None:
    condition = Condition("sales", 2, "failed", "ClickHouse did not answer.", NOON, "run-1")
    incident = Incident(condition, NOON, NOON)
    memory = Memory(Incidents({condition.key: incident}))
    assert Journal(Store(f"file://{project / 'lake'}")).append(0, memory)
    shown = CliRunner().invoke(main, ["alerts", "list", "--json"])
    assert json.loads(shown.stdout) == [
        {
            "endpoint": "sales",
            "version": 2,
            "kind": "failed",
            "what": "ClickHouse did not answer.",
            "since": "2026-01-01T12:00:00Z",
            "told": "2026-01-01T12:00:00Z",
            "run_id": "run-1",
        }
    ]
    assert "sales@2" in CliRunner().invoke(main, ["alerts", "list"]).stdout


@pytest.mark.parametrize(
    ("alerts", "arguments", "status", "words"),
    [
        ("", [], 2, "is not set"),
        ("json://127.0.0.1:1/T0KEN", ["--route", "growth"], 2, "no 'growth'"),
        ("growth=json://127.0.0.1:1/T0KEN", [], 1, "growth 1 (json): NOT delivered"),
    ],
)
def test_a_message_that_does_not_arrive(
    project: Path, alerts: str, arguments: list[str], status: int, words: str
) -> None:
    (project / ".env").write_text(f"ENDPOINTS_ALERTS={alerts}\n")
    done = CliRunner().invoke(main, ["alerts", "test", *arguments])
    assert done.exit_code == status
    assert words in done.output
    assert "T0KEN" not in done.output
