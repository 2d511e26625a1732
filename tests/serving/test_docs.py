"""docs/serving.md tells of every route, problem, option and header that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.routing import Route

from endpoints.settings import Settings
from serving.app import create_app
from serving.front import SHOWN_HEADERS
from serving.problems import KINDS
from serving.request import OPTIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text()


def test_every_route(tmp_path: Path) -> None:
    routes = [
        route.path for route in create_app(Settings(project=tmp_path)).routes if isinstance(route, Route)
    ]
    assert len(routes) > 9
    for path in routes:
        assert f" {path.rstrip('/')}" in PAGE, path


def test_every_problem() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE, re.MULTILINE)
    told = {code: int(status) for status, code in rows}
    assert told == {code: kind.status for code, kind in KINDS.items()}


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_every_option(option: str) -> None:
    assert f"`{option}" in PAGE


@pytest.mark.parametrize("header", [name for name in SHOWN_HEADERS.split(", ") if name != "Retry-After"])
def test_every_header(header: str) -> None:
    assert f"`{header}`" in PAGE
