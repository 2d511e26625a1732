"""sources.yaml: what is declared of tables, every mistake with its line, and the schema for editors."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from jsonschema import Draft202012Validator

from endpoints.definition import load_definitions, sources_schema
from endpoints.query.tables import Table

if TYPE_CHECKING:
    from tests.definition.conftest import Project

ROOT = Path(__file__).parents[2]
GOOD = """
tables:
  events: {timestamp: timestamp, freshness: 15m, owner: data@example.com, description: What people did.}
  shop.orders:
    timestamp: created
  people:
"""


def test_tables_are_found_as_queries_write_them(project: Project) -> None:
    project.write("usage")
    (project.folder / "sources.yaml").write_text(GOOD)
    sources = project.load().sources
    events, people = sources.of([Table("", "events"), Table("", "other"), Table("", "people")])
    assert (events.timestamp, events.freshness) == ("timestamp", timedelta(minutes=15))
    assert (events.owner, events.description) == ("data@example.com", "What people did.")
    assert people.timestamp is None
    assert sources.tables["shop.orders"].table == Table("shop", "orders")
    assert not sources.of([Table("other", "orders")])


def test_without_the_file_nothing_is_declared(project: Project) -> None:
    project.write("usage")
    assert not project.load().sources.tables


@pytest.mark.parametrize(
    ("text", "line", "code", "fix"),
    [
        ("tables:\n  events: {timestmp: t}\n", 2, "unknown_key", "timestamp"),
        ("tables:\n  events:\n    freshness: 1h\n", 3, "no_timestamp", "Add `timestamp: COLUMN`."),
        ("tables:\n  events: {timestamp: t, freshness: soon}\n", 2, "invalid_value", "90s"),
        ("tables:\n  a: \n  'f(x)': {timestamp: t}\n", 3, "bad_table", "without quotes"),
        ("table:\n  events:\n", 1, "unknown_key", "Did you mean tables?"),
        ("[events]\n", 1, "wrong_type", "tables"),
        ("tables: {events: {timestamp: [a]}}\n", 1, "wrong_type", ""),
        ("tables: {events: {timestamp: t}\n", 2, "invalid_yaml", ""),
    ],
)
def test_mistakes_have_a_line_and_a_fix(project: Project, text: str, line: int, code: str, fix: str) -> None:
    project.write("usage")
    (project.folder / "sources.yaml").write_text(text)
    definitions = load_definitions(project.folder)
    [problem] = definitions.problems
    assert (problem.file, problem.line, problem.code) == ("endpoint_defs/sources.yaml", line, code)
    assert problem.fix
    assert fix in problem.fix
    assert "usage" in definitions.endpoints, "a mistake here takes no endpoint down"


def test_a_wrong_table_leaves_the_others(project: Project) -> None:
    project.write("usage")
    text = "tables:\n  events: {timestamp: t}\n  people: {freshness: 1h}\n"
    (project.folder / "sources.yaml").write_text(text)
    assert set(load_definitions(project.folder).sources.tables) == {"events"}


def test_the_schema_file_is_the_models() -> None:
    advice = "python -m endpoints.definition sources > endpoint_defs/sources.schema.json"
    written = json.loads((ROOT / "endpoint_defs" / "sources.schema.json").read_text())
    assert written == sources_schema(), advice
    Draft202012Validator.check_schema(written)
    sample = (ROOT / "endpoint_defs" / "sources.yaml").read_text()
    for text in (GOOD, sample):
        assert not [*Draft202012Validator(written).iter_errors(yaml.safe_load(text))]
    assert sample.startswith("# yaml-language-server: $schema=sources.schema.json\n")


def test_every_key_is_documented() -> None:
    guide = (ROOT / "docs" / "definitions.md").read_text()
    schema = sources_schema()
    keys = {*schema["properties"], *schema["$defs"]["SourceYaml"]["properties"]}
    assert [key for key in sorted(keys) if f"`{key}`" not in guide] == []
