"""The import rules of the house: arrows point one way, and the request path never pays for Dagster."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "endpoints": ("dagster", "fastapi", "starlette", "orchestration", "serving"),
    "orchestration": ("serving", "fastapi", "starlette"),
    "serving": ("orchestration", "dagster"),
}


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports anywhere, in functions and under TYPE_CHECKING too, with its line."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute, so that this test sees them"
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "__import__",
        ):
            yield node.lineno, ast.literal_eval(node.args[0])


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_what_they_may(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: imports {module}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for line, module in imported(file)
        if module.partition(".")[0].startswith(FORBIDDEN[package])
    ]
    assert not wrong, "\n".join(wrong)


def test_dagster_is_used_by_its_public_names() -> None:
    """What is private in it may move with any release."""
    private = [
        f"{file.relative_to(ROOT)}:{line}: imports {module}"
        for file in sorted((ROOT / "orchestration").rglob("*.py"))
        for line, module in imported(file)
        if module.startswith("dagster._")
    ]
    assert not private, "\n".join(private)


def test_definitions_hold_no_code() -> None:
    assert not list((ROOT / "endpoint_defs").rglob("*.py"))


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import serving.app", {"dagster", "orchestration", "pandera", "pandas"}),
        ("import endpoints.cli", {"dagster", "fastapi", "orchestration", "serving", "pandera"}),
        ("import orchestration.definitions", {"fastapi", "serving", "pandera", "pandas"}),
    ],
)
def test_what_starting_loads(statement: str, absent: set[str]) -> None:
    assert not modules_after(statement) & absent
