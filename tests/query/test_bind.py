"""Callers' values become typed ones or one InputError; the statement that runs live, on real ClickHouse."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.definition import Version, load_definitions
from endpoints.errors import InputError
from endpoints.query.bind import Bound, PinConflict, PinNotApplicable, bind, live_statement
from endpoints.types import json_values
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.protocol import Caps, Statement

TEXT = st.sampled_from("\n\t'\"\\{}$N%;-/*") | st.characters(exclude_categories=["Cs", "Cc"])
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
REAL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedWarehouse]:
    """A table t: n from 0 to 23, s one of a, b and a third, d a date."""
    folder = tmp_path_factory.mktemp("data")
    rows = range(24)
    table = {
        "n": pl.Series([*rows], dtype=pl.UInt64),
        "s": ["ab\\"[i % 3] for i in rows],
        "d": [date(2026, 1, 1 + i % 5) for i in rows],
    }
    pl.DataFrame(table).write_parquet(folder / "t.parquet")
    warehouse = EmbeddedWarehouse(folder, workers=1)
    yield warehouse
    warehouse.close()


@pytest.fixture
def version(tmp_path: Path):
    def make(sql: str, variables: str = "") -> Version:
        folder = tmp_path / "endpoint_defs" / "usage"
        folder.mkdir(parents=True, exist_ok=True)
        text = f"current: 1\nversions:\n  1:\n    variables: {{{variables}}}\n"
        (folder / "endpoint.yaml").write_text(text)
        (folder / "v1.sql").write_text(sql)
        definitions = load_definitions(folder.parent)
        assert not definitions.problems, "\n".join(map(str, definitions.problems))
        return definitions.version("usage")

    return make


def bound(version: Version, given: dict[str, object] | None = None, **more: object) -> Bound:
    return bind(version, given or {}, now=NOW, **more)


def refused(version: Version, given: dict[str, object], **more: object) -> dict[str, tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        bind(version, given, now=NOW, **more)
    return {error.field: (error.code, error.detail) for error in caught.value.fields}


def rows(warehouse: EmbeddedWarehouse, statement: Statement) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    with warehouse.run(statement, Caps()) as result:
        for batch in result:
            columns = [
                json_values(array, column.type, timezone="UTC")
                for array, column in zip(batch.columns, result.columns, strict=True)
            ]
            found += zip(*columns, strict=True)
    return found


ALL = "SELECT {n:UInt8}, {s:String}, {d:Date}, {a:Array(UInt8)}, {o:Nullable(String)}"
RULES = (
    "n: {min: 2, max: 9}, s: {pattern: '^cust_', max_length: 9}, d: {default: today - 1d}, a: {enum: [1, 2]}"
)
GOOD: dict[str, object] = {"n": "5", "s": "cust_1", "a": ["1", "2"], "o": None}


def test_values_are_typed(version) -> None:
    values = bound(version(ALL, RULES), GOOD).values
    assert values == {"n": 5, "s": "cust_1", "d": date(2026, 5, 16), "a": [1, 2], "o": None}


def test_every_wrong_field_is_told_at_once(version) -> None:
    given = {"n": "300", "s": "x", "a": ["1", "3"], "q": "1", "d": "2026-02-30"}
    found = refused(version(ALL, RULES), given)
    assert {field: code for field, (code, _) in found.items()} == {
        "n": "invalid_value",
        "s": "pattern_mismatch",
        "d": "invalid_value",
        "a": "not_in_enum",
        "o": "missing_variable",
        "q": "unknown_variable",
    }
    assert all(detail.endswith(".") for _, detail in found.values())
    assert "1, 2" in found["a"][1]


@pytest.mark.parametrize(
    ("given", "field", "code"),
    [
        ({"n": 1}, "n", "out_of_range"),
        ({"n": "10"}, "n", "out_of_range"),
        ({"n": True}, "n", "invalid_value"),
        ({"n": ["5", "6"]}, "n", "invalid_value"),
        ({"n": None}, "n", "invalid_value"),
        ({"n": {"a": 1}}, "n", "invalid_value"),
        ({"n": "5 or 1=1"}, "n", "invalid_value"),
        ({"s": "cust_1234567"}, "s", "too_long"),
        ({"s": "x" * 9000}, "s", "too_long"),
        ({"s": "é" * 5000}, "s", "too_long"),
        ({"s": "xcust_1"}, "s", "pattern_mismatch"),
        ({"s": 5}, "s", "invalid_value"),
        ({"a": "3"}, "a", "not_in_enum"),
        ({"a": [1] * 5000}, "a", "too_long"),
        ({"N": "5"}, "N", "unknown_variable"),
    ],
)
def test_refused(version, given: dict[str, object], field: str, code: str) -> None:
    assert refused(version(ALL, RULES), {**GOOD, **given})[field][0] == code


def test_near_names_are_told(version) -> None:
    found = refused(version("SELECT {customer_id:String}"), {"custmer_id": "x"})
    assert "customer_id" in found["custmer_id"][1]
    assert found["customer_id"][0] == "missing_variable"


def test_unknown_names_are_not_repeated_at_length(version) -> None:
    found = refused(version("SELECT 1"), {f"{n}{'x' * 5000}": "1" for n in range(1000)})
    assert len(found) == 20
    assert all(len(field) <= 128 for field in found)


def test_a_private_value_is_never_shown(version) -> None:
    private = version(
        "SELECT {n:UInt8}, {s:String}", "n: {private: true}, s: {private: true, enum: [secret]}"
    )
    found = refused(private, {"n": "hunter2", "s": "hunter2"})
    assert {code for code, _ in found.values()} == {"invalid_value", "not_in_enum"}
    for _, detail in found.values():
        assert "hunter2" not in detail
        assert "secret" not in detail
    example = version("SELECT {n:String}", "n: {private: true, example: cust_42}")
    assert "cust_42" not in refused(example, {})["n"][1]


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^cust_", "cust_1", True),
        ("cust", "a cust b", True),
        ("^[a-z]+$", "acme", True),
        ("^[a-z]+$", "acme\n", False),
        ("^[a-z]+$", "a\nb", False),
        ("(a+)+$", "a" * 5000 + "b", False),
    ],
)
def test_patterns(version, pattern: str, text: str, matches: bool) -> None:
    made = version("SELECT {s:String}", f"s: {{pattern: '{pattern}'}}")
    if matches:
        assert bound(made, {"s": text}).values == {"s": text}
    else:
        assert refused(made, {"s": text})["s"][0] == "pattern_mismatch"


def test_nan_is_in_no_range(version) -> None:
    made = version("SELECT {x:Float64}", "x: {min: 0}")
    for text in ("nan", "-0.1"):
        assert refused(made, {"x": text})["x"][0] in ("out_of_range", "invalid_value")


# Pins ------------------------------------------------------------------------------------------------

PINNED = "SELECT n FROM t WHERE n = {n:UInt64} AND s = {s:String}"


def test_pins_go_first_and_may_be_repeated_in_any_spelling(version) -> None:
    made = version(PINNED, "n: {default: 1}, s: {optional: true}")
    assert bound(made, pins={"n": "7", "s": "a"}).values == {"n": 7, "s": "a"}
    assert bound(made, {"n": "7"}, pins={"n": 7}).values["n"] == 7


@pytest.mark.parametrize("given", ["8", "x", None, ["7", "8"], ""])
def test_a_pin_cannot_be_changed(version, given: object) -> None:
    with pytest.raises(PinConflict) as caught:
        bound(version(PINNED), {"n": given, "s": "a"}, pins={"n": "7"})
    assert "7" not in str(caught.value)


def test_a_pin_that_names_no_variable(version) -> None:
    with pytest.raises(PinNotApplicable) as caught:
        bound(version(PINNED), {"n": "1", "s": "a"}, pins={"customer": "acme", "n": "1"})
    assert caught.value.names == {"customer"}
    assert "acme" not in str(caught.value)


def test_a_pin_outside_its_type_admits_nobody(version) -> None:
    with pytest.raises(PinConflict):
        bound(version(PINNED), {"s": "a"}, pins={"n": "acme"})


# Keys ------------------------------------------------------------------------------------------------


def test_one_key_for_one_set_of_values(version) -> None:
    made = version("SELECT {n:Int64}, {d:Date}, {a:Array(String)}", "d: {default: today}")
    key = bound(made, {"n": "5", "a": ["x", "y"]}).key
    assert bound(made, {"a": ["x", "y"], "n": 5, "d": "2026-05-17"}).key == key
    others = [{"n": 6, "a": ["x", "y"]}, {"n": 5, "a": ["y", "x"]}, {"n": 5, "a": ["x,y"]}, {"n": 5, "a": []}]
    assert len({bound(made, other).key for other in others} | {key}) == len(others) + 1


def test_absent_is_not_null_and_not_empty(version) -> None:
    made = version("SELECT n FROM t WHERE s = {s:Nullable(String)}", "s: {optional: true}")
    given: list[dict[str, object]] = [{}, {"s": None}, {"s": ""}, {"s": "null"}]
    assert [sorted(bound(made, g).absent) for g in given] == [["s"], [], [], []]
    assert len({bound(made, g).key for g in given}) == 4


# The live statement ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT n FROM t WHERE s = {s:String}", "SELECT n FROM t WHERE 1"),
        ("SELECT n FROM t WHERE n<5 AND(s = {s:String})AND n>1;", "SELECT n FROM t WHERE n<5 AND(1)AND n>1"),
        (
            "SELECT n FROM t WHERE s={s:String}AND n BETWEEN 1 AND 2 -- ;\n ;",
            "SELECT n FROM t WHERE 1 AND n BETWEEN 1 AND 2 -- ;\n ",
        ),
        (
            "SELECT n FROM t PREWHERE s = {s:String} WHERE s IN ({s:String}) AND /* {s:String} */ n < 3",
            "SELECT n FROM t PREWHERE 1 WHERE 1 AND /* {s:String} */ n < 3",
        ),
        (
            "SELECT n FROM (SELECT * FROM t WHERE s = {s:String}) WHERE n<2",
            "SELECT n FROM (SELECT * FROM t WHERE 1) WHERE n<2",
        ),
    ],
)  # fmt: skip
def test_an_absent_variable_takes_its_condition_with_it(version, warehouse, sql: str, expected: str) -> None:
    made = version(sql, "s: {optional: true}")
    statement = live_statement(bound(made))
    assert statement.sql == expected
    assert statement.parameters == {}
    everything = rows(warehouse, live_statement(bound(made), total_order=1))
    parts = [rows(warehouse, live_statement(bound(made, {"s": s}), total_order=1)) for s in "ab\\"]
    assert sorted(everything) == sorted(row for part in parts for row in part)


@REAL
@given(st.text(TEXT, max_size=20))
def test_what_callers_write_is_only_ever_a_value(warehouse, tmp_path_factory, text: str) -> None:
    folder = tmp_path_factory.mktemp("defs") / "usage"
    folder.mkdir()
    (folder / "endpoint.yaml").write_text("current: 1\nversions: {1: }\n")
    (folder / "v1.sql").write_text("SELECT {s:String} AS s, {a:Array(String)} AS a")
    made = load_definitions(folder.parent).version("usage")
    values = bound(made, {"s": text, "a": [text, "x"]})
    assert rows(warehouse, live_statement(values)) == [(text, [text, "x"])]
