"""What planning has told before is not asked again, until text or code change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from endpoints.definition import Definitions, load_definitions
from orchestration.catalog import catalog
from orchestration.verdicts import Verdicts


def define(project: Path, sql: str) -> Definitions:
    folder = project / "endpoint_defs" / "sales"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "endpoint.yaml").write_text("current: 1\nversions: {1: {materialize: {schedule: daily}}}\n")
    (folder / "v1.sql").write_text(sql)
    return load_definitions(project / "endpoint_defs")


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that are planned."""
    import orchestration.catalog

    plan: Callable[..., object] = orchestration.catalog.plan_of
    seen: list[str] = []

    def counted(version):  # type: ignore[no-untyped-def]
        seen.append(version.key)
        return plan(version)

    monkeypatch.setattr(orchestration.catalog, "plan_of", counted)
    return seen


def load(project: Path, definitions: Definitions) -> str | None:
    verdicts = Verdicts(project / "cache")
    [listed] = catalog(definitions, verdicts)
    verdicts.keep()
    return listed.live_only


def test_a_version_is_planned_once(tmp_path: Path, planned: list[str]) -> None:
    right = define(tmp_path, "SELECT shop FROM sales")
    assert [load(tmp_path, right) for _ in range(3)] == [None, None, None]
    assert planned == ["sales@1"]
    wrong = define(tmp_path, "SELECT rand() AS r FROM sales")
    assert [(load(tmp_path, wrong) or "")[:24] for _ in range(2)] == ["sales@1 runs live only: "] * 2
    assert planned == ["sales@1", "sales@1"]


@pytest.mark.parametrize("damage", [b"", b"{", b'["no"]', b'{"sales@1": 7}'])
def test_a_file_that_cannot_be_read_is_made_anew(tmp_path: Path, planned: list[str], damage: bytes) -> None:
    definitions = define(tmp_path, "SELECT shop FROM sales")
    load(tmp_path, definitions)
    [file] = (tmp_path / "cache").iterdir()
    file.write_bytes(damage)
    assert load(tmp_path, definitions) is None
    assert load(tmp_path, definitions) is None
    assert len(planned) == 2


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, planned: list[str]) -> None:
    (tmp_path / "cache").touch()
    assert load(tmp_path, define(tmp_path, "SELECT shop FROM sales")) is None
