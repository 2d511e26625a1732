"""A version without its conditions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from endpoints.definition import Version, load_definitions
from endpoints.query.widest import widest

CASES = [
    ("SELECT x FROM t WHERE a = {a:String} AND b >= {b:UInt8}", "SELECT x FROM t WHERE a = {a:String} AND 1"),
    ("SELECT x FROM t WHERE b > {b:UInt8} AND b < {b:UInt8}", "SELECT x FROM t WHERE 1 AND 1"),
    ("SELECT x FROM t WHERE (a = {a:String} OR b = {b:UInt8})", "SELECT x FROM t WHERE (1)"),
    (
        "SELECT x FROM t WHERE b = 1 GROUP BY x HAVING count() > {b:UInt8}",
        "SELECT x FROM t WHERE b = 1 GROUP BY x HAVING 1",
    ),
    ("SELECT x FROM t LIMIT {b:UInt8}", "SELECT x FROM t LIMIT {b:UInt8}"),
    (
        "SELECT x FROM t WHERE {b:UInt8} < x AND x IN (SELECT y FROM u WHERE z = {b:UInt8})",
        "SELECT x FROM t WHERE 1 AND x IN (SELECT y FROM u WHERE 1)",
    ),
]


@pytest.fixture
def version(tmp_path: Path) -> Version:
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / "endpoint.yaml").write_text("current: 1\nversions: {1: }\n")
    (folder / "v1.sql").write_text("SELECT x FROM t WHERE a = {a:String} AND b >= {b:UInt8}")
    return load_definitions(tmp_path).version("e")


@pytest.mark.parametrize(("sql", "expected"), CASES)
def test_conditions_go_but_those_of_kept_variables(version: Version, sql: str, expected: str) -> None:
    left = widest(replace(version, sql=sql), {"a"})
    assert left.sql == expected
    assert set(left.variables) == {name for name in ("a", "b") if f"{{{name}:" in expected}
