"""The JSON Schema that editors complete endpoint.yaml from says what the reader says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from endpoints.definition import json_schema
from endpoints.definition.schema import EndpointYaml
from endpoints.query.permitted import SETTINGS, TABLE_FUNCTIONS

ROOT = Path(__file__).parents[2]
SCHEMA_FILE = ROOT / "endpoint_defs" / "endpoint.schema.json"
VALIDATOR = Draft202012Validator(json_schema())


def read(text: str) -> Any:
    """YAML as an editor's checker sees it: plain text, numbers, true and false."""
    data = yaml.load(text, Loader=yaml.BaseLoader)
    return json.loads(json.dumps(data), object_hook=_numbers)


def _numbers(mapping: dict[str, Any]) -> dict[str, Any]:
    words = {"true": True, "false": False, "": None}
    return {k: int(v) if isinstance(v, str) and v.isdigit() else _word(words, v) for k, v in mapping.items()}


def _word(words: dict[str, Any], value: Any) -> Any:
    return words.get(value, value) if isinstance(value, str) else value


def test_the_file_is_the_models() -> None:
    advice = "python -m endpoints.definition > endpoint_defs/endpoint.schema.json"
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), advice


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("endpoint_defs/*/endpoint.yaml")), ids=lambda p: p.parent.name
)
def test_the_samples_fit_and_name_it(path: Path) -> None:
    text = path.read_text()
    assert [*VALIDATOR.iter_errors(read(text))] == []
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == SCHEMA_FILE


@pytest.mark.parametrize(
    "text",
    [
        "current: 1",
        "current: 1\nversions: {}",
        "current: 1\nversions: {one: {}}",
        "current: 1\nversions: {1: {freshnes: 1h}}",
        "current: 1\nversions: {1: {freshness: soon}}",
        "current: 1\nversions: {1: {live_when: [never]}}",
        "current: 1\nversions: {1: {materialize: {schedule: sometimes}}}",
        "current: 1\nversions: {1: {materialize: {partitions: {by: day}}}}",
        "current: 1\nversions: {1: {limits: {rate: 5}}}",
        "current: 1\nversions: {1: {variables: {a: {optional: maybe}}}}",
    ],
)
def test_mistakes_show_in_editors(text: str) -> None:
    assert [*VALIDATOR.iter_errors(read(text))]


def test_every_key_has_a_description() -> None:
    definitions = json_schema()["$defs"]
    for name, definition in {**definitions, "EndpointYaml": json_schema()}.items():
        for key, value in definition["properties"].items():
            assert value.get("description") or value.get("$ref"), f"{name}.{key}"


def test_every_key_is_documented() -> None:
    guide = (ROOT / "docs" / "definitions.md").read_text()
    models = [EndpointYaml.model_json_schema(), *json_schema()["$defs"].values()]
    keys = {key for model in models for key in model["properties"]}
    assert [key for key in sorted(keys) if f"`{key}`" not in guide] == []


def test_every_code_setting_and_table_function_is_documented() -> None:
    guide = (ROOT / "docs" / "definitions.md").read_text()
    cases = (ROOT / "tests" / "definition" / "cases").glob("*.yaml")
    codes = {code for path in cases for code in re.findall(r":\d+ ([a-z_]+)", path.read_text())}
    source = "".join(path.read_text() for path in (ROOT / "endpoints").glob("[dq]*/*.py"))
    codes |= set(re.findall(r'Ban\(\s*"([a-z_]+)"', source))
    codes |= set(re.findall(r'Problem\([^"()]+,[^"()]+, "([a-z_]+)"', source))
    assert len(codes) > 40
    names = codes | SETTINGS | (TABLE_FUNCTIONS - {"generateseries"})
    assert [name for name in sorted(names) if f"`{name}`" not in guide] == []
