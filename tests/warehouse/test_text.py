"""What is done to a statement's text, and what ClickHouse's words become."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from endpoints import errors
from endpoints.warehouse.failures import failure, failure_of
from endpoints.warehouse.text import describe_sql, own_settings, with_literals, without_semicolon


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1;", "SELECT 1"),
        ("SELECT 1 ; ; -- done;\n", "SELECT 1 "),
        ("SELECT ';' -- ;", "SELECT ';'"),
        ("SELECT 1", "SELECT 1"),
        ("", ""),
    ],
)
def test_semicolons_at_the_end_go(sql: str, expected: str) -> None:
    assert without_semicolon(sql).rstrip() == expected.rstrip()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 SETTINGS a = 1, b = 'x,y';", (("a", "1"), ("b", "'x,y'"))),
        ("(SELECT 1) SETTINGS a = -1", (("a", "-1"),)),
        ("SELECT settings FROM t WHERE settings = 1", ()),
        ("SELECT * FROM (SELECT 1 SETTINGS a = 1)", ()),
        ("SELECT 'SETTINGS a = 1' -- SETTINGS b = 2", ()),
        ("SELECT 1 UNION ALL SELECT 2 SETTINGS a = 1", (("a", "1"),)),
    ],
)
def test_own_settings_are_those_at_the_end(sql: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert own_settings(sql) == expected


def test_a_comment_at_the_end_does_not_swallow_the_bracket() -> None:
    assert describe_sql("SELECT 1 -- one").splitlines()[-1] == ")"


def test_literals_go_where_placeholders_are() -> None:
    sql = "SELECT {a:UInt8}, '{a:UInt8}', {b:String} /* {b:String} */"
    literals = {"a": "toUInt8(1)", "b": "'{a:UInt8}'"}
    spliced = with_literals(sql, literals.__getitem__)
    assert spliced == "SELECT toUInt8(1), '{a:UInt8}', '{a:UInt8}' /* {b:String} */"


def test_clickhouses_words_without_its_noise() -> None:
    error = failure_of("Streaming query failed: Code: 62. DB::Exception: Syntax error: at 1. (SYNTAX_ERROR)")
    assert (type(error), error.clickhouse_code) == (errors.BadQuery, 62)
    assert str(error) == "Syntax error: at 1. (SYNTAX_ERROR)"
    assert str(failure(60, "No table. Stack trace:\n\n0. /lib/x")) == "No table."
    assert failure_of("no code at all").clickhouse_code is None


def test_the_docs_list_every_code() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "warehouse.md").read_text()
    documented: dict[int, str] = {}
    for name, cell in re.findall(r"^\| `(\w+)` \| ([\d][^|]*)\|$", docs, re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:–(\d+))?", cell):
            documented |= dict.fromkeys(range(int(first), int(last or first) + 1), name)
    known = {code: type(failure(code, "")).__name__ for code in range(1100)}
    assert documented == {code: name for code, name in known.items() if name != "BadQuery"}
