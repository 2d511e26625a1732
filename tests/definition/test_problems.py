"""Every mistake of a definition: file, line, code, what to write instead. The cases are in cases/."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoints.definition import load_definitions

CASES = Path(__file__).parent / "cases"
EXPECTED = re.compile(r"(?P<file>[^:]+):(?P<line>\d+) (?P<code>\w+)(?:: (?P<words>.+))?")


@dataclass(frozen=True)
class Case:
    files: dict[str, str]
    problems: list[str]


def read_cases() -> list[Any]:
    return [
        pytest.param(_case(raw), id=f"{path.stem}: {raw['name']}")
        for path in sorted(CASES.glob("*.yaml"))
        for raw in yaml.safe_load(path.read_text())
    ]


def _case(raw: dict[str, Any]) -> Case:
    files = {"endpoint.yaml": raw["yaml"], **raw.get("files", {})}
    sql = raw.get("sql", "SELECT 1")
    return Case(files if sql is None else {**files, "v1.sql": sql}, raw["problems"])


@pytest.mark.parametrize("case", read_cases())
def test_problems(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "endpoint_defs" / "usage"
    folder.mkdir(parents=True)
    for name, text in case.files.items():
        (folder / name).write_text(text, "utf-8")
    definitions = load_definitions(tmp_path / "endpoint_defs")
    problems = list(definitions.problems)
    expected = [EXPECTED.fullmatch(text) for text in case.problems]
    found = [(p.file, p.line, p.code) for p in problems]
    wanted = [(f"endpoint_defs/usage/{e['file']}", int(e["line"]), e["code"]) for e in expected if e]
    assert sorted(found) == sorted(wanted), "\n".join(map(str, problems))
    for match in expected:
        assert match is not None
        words = match["words"] or ""
        texts = [
            f"{p.message} {p.fix}"
            for p in problems
            if (p.line, p.code) == (int(match["line"]), match["code"])
        ]
        assert any(words in text for text in texts), texts
    for problem in problems:
        assert problem.fix, problem
        assert problem.message[-1] in ".?", problem
    assert ("usage" in definitions.broken) == bool(problems)
    assert ("usage" in definitions.endpoints) == (not problems)
