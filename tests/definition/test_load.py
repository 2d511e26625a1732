"""A folder of definitions becomes typed objects; what is bad in it stays by itself."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.definition import (
    BrokenEndpoint,
    ColumnContract,
    Contract,
    Limits,
    Partitions,
    UnknownEndpoint,
    load_definitions,
)
from endpoints.query.permitted import Allow

FULL = """
description: Events a customer sent, by day and event.
owner: growth@example.com
tags: [customer-facing]
current: 2                     # what unpinned callers get
versions:
  1: {deprecated: 2026-10-01, sunset: 2027-04-01}
  2:
    variables:
      customer_id: {description: Your customer's id, example: cust_42, pattern: "^cust_", private: true}
      date_from:   {default: "today - 30d"}
      country:     {optional: true}
    freshness: 1h
    cache: 60s
    live_when: [missing, stale, failed, breached]
    materialize:
      schedule: hourly
      partitions: {column: timestamp, by: day, start: 2026-01-01, refresh: 2}
    contract:
      columns:
        day:    {type: Date}
        events: {type: UInt64, ge: 1}
      unique: [day, event]
      rows: {min: 1}
    limits: {timeout: 10s, max_rows: 50000, max_memory: 1GiB, rate: 600/minute}
"""
SQL = """SELECT toDate(timestamp) AS day, event, count() AS events, uniq(person_id) AS people
FROM events
WHERE customer_id = {customer_id:String}
  AND toDate(timestamp) >= {date_from:Date}
  AND country = {country:String}
GROUP BY day, event
ORDER BY day, event
"""


def test_the_definition_of_the_design(project) -> None:
    project.write("customer_usage", FULL, v1="SELECT 1 AS a", v2=SQL)
    endpoint = project.load().find("customer_usage")
    assert (endpoint.name, endpoint.owner, endpoint.tags, endpoint.current) == (
        "customer_usage",
        "growth@example.com",
        ("customer-facing",),
        2,
    )
    one, two = endpoint.versions.values()
    assert (one.deprecated, one.sunset) == (date(2026, 10, 1), date(2027, 4, 1))
    assert endpoint.current_version is two
    assert (two.key, two.sql, two.sql_file) == ("customer_usage@2", SQL, endpoint.folder / "v2.sql")
    assert [*two.variables] == ["customer_id", "date_from", "country"]
    customer, since, country = two.variables.values()
    assert (str(customer.type), customer.required, customer.private, customer.line) == (
        "String",
        True,
        True,
        3,
    )
    assert (customer.description, customer.example, customer.pattern) == (
        "Your customer's id",
        "cust_42",
        "^cust_",
    )
    assert (since.required, str(since.default)) == (False, "today - 30d")
    assert (country.required, country.optional) == (False, True)
    assert (two.freshness, two.cache) == (timedelta(hours=1), timedelta(seconds=60))
    assert two.materialize is not None
    assert (two.materialize.schedule, two.materialize.cron) == ("hourly", "0 * * * *")
    assert two.materialize.partitions == Partitions(
        "timestamp", "day", datetime(2026, 1, 1, tzinfo=UTC), refresh=2
    )
    columns = {"day": ColumnContract(type="Date"), "events": ColumnContract(type="UInt64", ge="1")}
    assert two.contract == Contract(columns, ("day", "event"), rows_min=1)
    assert two.limits == Limits(timedelta(seconds=10), 50_000, 2**30, "600/minute")


def test_what_a_version_is_if_nothing_is_said(project) -> None:
    version = project.version("SELECT 1 AS a")
    assert version.live_when == {"missing", "stale", "failed", "breached"}
    assert version.freshness == version.cache == timedelta(hours=1)
    assert version.materialize is None
    assert version.contract is None
    assert version.limits == Limits()
    assert (version.public, version.clock, version.deprecated, version.sunset) == (False, None, None, None)


@pytest.mark.parametrize(
    ("schedule", "cron", "freshness"),
    [
        ("hourly", "0 * * * *", timedelta(hours=2)),
        ("6h", "0 */6 * * *", timedelta(hours=7)),
        ("daily", "0 0 * * *", timedelta(hours=25)),
        ("weekly", "0 0 * * 1", timedelta(days=7, hours=1)),
        ("0  9 * * 1-5", "0 9 * * 1-5", timedelta(hours=73)),
    ],
)
def test_schedules_and_the_freshness_that_follows(project, schedule, cron, freshness) -> None:
    version = project.version("SELECT 1 AS a", f"materialize: {{schedule: '{schedule}'}}")
    assert version.materialize is not None
    assert (version.materialize.schedule, version.materialize.cron) == (schedule, cron)
    assert version.freshness == freshness
    assert project.version("SELECT 1 AS a", "freshness: 30s").freshness == timedelta(seconds=30)


def test_partition_bounds_are_instants_of_their_zone(project) -> None:
    text = "{column: d, by: month, start: 2026-01-01, end: 2026-07-01, timezone: Europe/Berlin}"
    version = project.version("SELECT 1 AS a", f"materialize: {{partitions: {text}}}")
    assert version.materialize is not None
    assert version.materialize.cron is None
    partitions = version.materialize.partitions
    assert partitions is not None
    assert partitions.start == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert partitions.end == datetime(2026, 6, 30, 22, tzinfo=UTC)
    text = "{column: c, by: list, values: [NO, no, 007]}"
    version = project.version("SELECT 1 AS a", f"materialize: {{partitions: {text}}}")
    assert version.materialize is not None
    assert version.materialize.partitions == Partitions("c", "list", values=("NO", "no", "007"))


def test_a_bad_endpoint_leaves_the_others_alone(project) -> None:
    project.write("good")
    project.write("bad", "current: 1\nversions: {1: {freshnes: 1h}}\n")
    project.write("worse", "[", v1="(")
    (project.folder / "none").mkdir()
    definitions = load_definitions(project.folder)
    assert [*definitions.endpoints] == ["good"]
    assert {name: [p.code for p in problems] for name, problems in definitions.broken.items()} == {
        "bad": ["unknown_key"],
        "none": ["missing_yaml"],
        "worse": ["invalid_yaml"],
    }
    assert [p.file for p in definitions.problems] == [
        "endpoint_defs/bad/endpoint.yaml",
        "endpoint_defs/none/endpoint.yaml",
        "endpoint_defs/worse/endpoint.yaml",
    ]
    with pytest.raises(BrokenEndpoint) as caught:
        definitions.find("BAD")
    assert [p.code for p in caught.value.problems] == ["unknown_key"]


def test_a_reload_keeps_the_last_good_form(project) -> None:
    project.write("kept")
    project.write("gone")
    before = project.load()
    project.write("kept", v1="SELECT 2;;\nSELECT 3")
    (project.folder / "gone" / "v1.sql").unlink()
    (project.folder / "gone" / "endpoint.yaml").unlink()
    (project.folder / "gone").rmdir()
    project.write("new")
    after = load_definitions(project.folder, previous=before)
    assert [*after.endpoints] == ["new", "kept"]
    assert after.version("kept").sql == "SELECT 1 AS one"
    assert [p.code for p in after.problems] == ["several_statements"]
    project.write("kept", v1="SELECT 2 AS two")
    assert load_definitions(project.folder, previous=after).version("kept").sql == "SELECT 2 AS two"


def test_a_folder_that_is_not_there(tmp_path: Path, project) -> None:
    project.write("kept")
    before = project.load()
    definitions = load_definitions(tmp_path / "nowhere", previous=before)
    assert [(p.file, p.code) for p in definitions.problems] == [("nowhere", "no_definitions")]
    assert [*definitions.endpoints] == ["kept"]


def test_names_that_differ_only_in_case_are_both_refused(project) -> None:
    project.write("usage")
    project.write("Usage")
    definitions = load_definitions(project.folder)
    if len([*project.folder.iterdir()]) == 1:
        pytest.skip("the file system does not tell case apart")
    assert [(p.file, p.code) for p in definitions.problems] == [
        ("endpoint_defs/Usage/endpoint.yaml", "duplicate_name"),
        ("endpoint_defs/usage/endpoint.yaml", "duplicate_name"),
    ]


@pytest.mark.parametrize("name", ["1st", "a b", "ä", "a.b", "x" * 129, "_a", "-a"])
def test_bad_names(project, name: str) -> None:
    project.write(name)
    assert [p.code for p in load_definitions(project.folder).problems] == ["bad_name"]


@pytest.mark.parametrize("name", ["a", "A-1_b", "x" * 128])
def test_good_names(project, name: str) -> None:
    project.write(name)
    assert project.load().find(name.upper()).name == name


def test_what_is_no_endpoint_is_passed_over(project) -> None:
    project.write("usage")
    (project.folder / ".git").mkdir()
    (project.folder / "__pycache__").mkdir()
    (project.folder / "endpoints.lock").write_text("")
    assert [*project.load().endpoints] == ["usage"]


def test_finding(project) -> None:
    project.write(
        "customer_usage", "current: 2\nversions: {1: , 2: }\n", v1="SELECT 1 AS a", v2="SELECT 2 AS a"
    )
    definitions = project.load()
    assert definitions.version("Customer_Usage").number == 2
    assert definitions.version("customer_usage@1").number == 1
    assert definitions.near("custmer_usage") == ("customer_usage",)
    with pytest.raises(UnknownEndpoint, match="Did you mean customer_usage"):
        definitions.version("customer_usgae@1")
    for key in (
        "customer_usage@3",
        "customer_usage@",
        "customer_usage@one",
        "customer_usage@-1",
        "customer_usage@²",
    ):
        with pytest.raises(UnknownEndpoint, match="it has 1, 2"):
            definitions.version(key)


def test_files_that_are_no_text(project) -> None:
    project.write("latin", v1="SELECT 1")
    (project.folder / "latin" / "v1.sql").write_bytes("SELECT 1\n-- é".encode("latin-1"))
    project.write("huge", v1="SELECT 1 -- " + "x" * (1 << 20))
    project.write("odd", "")
    (project.folder / "odd" / "endpoint.yaml").write_bytes(b"a: 1\nb: \xff\n")
    project.write("bom", "\ufeffcurrent: 1\nversions: {1: }\n")
    definitions = load_definitions(project.folder)
    assert [(p.file.partition("/")[2], p.line, p.code) for p in definitions.problems] == [
        ("huge/v1.sql", 1, "too_large"),
        ("latin/v1.sql", 2, "not_utf8"),
        ("odd/endpoint.yaml", 2, "not_utf8"),
    ]
    assert "bom" in definitions.endpoints


WORDS = [
    "current",
    "versions",
    "variables",
    "1",
    "2",
    "limits",
    "rows",
    "enum",
    "default",
    "optional",
    "true",
    "60s",
]
WORDS += [
    "contract",
    "columns",
    "type",
    "materialize",
    "partitions",
    "by",
    "day",
    "start",
    "live_when",
    "[]",
    "{}",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)
ANYTHING = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@ANYTHING
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.text(max_size=40))
def test_no_file_raises(project, content: bytes, sql: str) -> None:
    project.write("usage", v1=sql)
    (project.folder / "usage" / "endpoint.yaml").write_bytes(content)
    definitions = load_definitions(project.folder)
    assert ("usage" in definitions.broken) != ("usage" in definitions.endpoints)


@ANYTHING
@given(VALUES, VALUES)
def test_no_content_raises(project, data: object, version: object) -> None:
    """Data of any shape, at the top and where a version belongs."""
    sql = "SELECT {default:Date}, {enum:Array(UInt8)} FROM t WHERE a = {optional:String}"
    for content in (data, {"current": 1, "versions": {"1": version}}):
        project.write("usage", yaml.safe_dump(content, allow_unicode=True), v1=sql)
        definitions = load_definitions(project.folder)
        assert ("usage" in definitions.broken) != ("usage" in definitions.endpoints)
        for problem in definitions.problems:
            assert problem.fix
            assert problem.line >= 1


def test_a_project_may_allow_more(project) -> None:
    project.write("remote", v1="SELECT * FROM url('http://localhost')")
    assert [p.code for p in load_definitions(project.folder).problems] == ["table_function"]
    assert not load_definitions(project.folder, allow=Allow(frozenset({"url"}))).problems


def test_problems_name_files_from_the_root(tmp_path: Path, project) -> None:
    project.write("bad", "")
    [problem] = load_definitions(project.folder, root=tmp_path.parent).problems
    assert problem.file == f"{tmp_path.name}/endpoint_defs/bad/endpoint.yaml"
    assert str(problem).startswith(f"{problem.file}:1: ")


def test_the_samples_of_this_repository_are_right() -> None:
    folder = Path(__file__).parents[2] / "endpoint_defs"
    assert load_definitions(folder).problems == ()


def test_a_folder_whose_name_is_not_utf8_is_broken_under_a_name_that_can_be_sent(project) -> None:
    project.write("good")
    (Path(os.fsdecode(os.fsencode(project.folder) + b"/caf\xe9"))).mkdir()
    definitions = load_definitions(project.folder)
    assert list(definitions.endpoints) == ["good"]
    assert list(definitions.broken) == ["caf\ufffd"]
    assert [str(problem).encode() for problem in definitions.problems]
    assert {problem.code for problem in definitions.problems} == {"bad_name", "missing_yaml"}
