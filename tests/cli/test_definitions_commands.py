"""validate, plan, new, lock: what a writer of endpoints sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from endpoints.cli import main
from tests.cli.conftest import Run, write_endpoint


def test_good_definitions(run: Run) -> None:
    done = run("validate", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"ok": True, "endpoints": 1, "versions": 2, "problems": []}


def test_a_mistake_is_shown_with_its_place_and_fix(run: Run, project: Path) -> None:
    write_endpoint(project, "broken", "current: 1\nversions: {1: {freshnes: 1h}}\n", "SELECT 1 AS one")
    done = run("validate")
    assert done.exit_code == 1
    assert "endpoint_defs/broken/endpoint.yaml:2: " in done.stdout
    assert "freshness" in done.stdout

    report = json.loads(run("validate", "--json").stdout)
    assert (report["ok"], report["endpoints"], report["versions"]) == (False, 2, 2)
    (problem,) = report["problems"]
    assert set(problem) == {"file", "line", "code", "message", "fix"}
    assert (problem["file"], problem["line"]) == ("endpoint_defs/broken/endpoint.yaml", 2)


def test_clickhouse_is_asked_about_columns_and_types(run: Run, project: Path) -> None:
    yaml = "current: 1\nversions: {1: {contract: {columns: {a: {type: String}, b: {ge: 1}}}}}\n"
    write_endpoint(project, "promises", yaml, "SELECT toUInt8(1) AS a")
    write_endpoint(project, "unknown_table", "current: 1\nversions: {1: {}}\n", "SELECT x FROM nowhere")
    assert run("validate").exit_code == 0
    done = run("validate", "--connect", "--json")
    assert done.exit_code == 1
    problems = json.loads(done.stdout)["problems"]
    assert [problem["code"] for problem in problems] == ["contract", "contract", "bad_query"]
    assert "'a' is UInt8, not String" in problems[0]["message"]
    assert "'b'" in problems[1]["message"]


def test_clickhouse_is_asked_about_sources(run: Run, project: Path) -> None:
    text = "tables:\n  sales: {timestamp: region}\n  nowhere: {timestamp: at}\n  elsewhere: {owner: me}\n"
    (project / "endpoint_defs" / "sources.yaml").write_text(text)
    assert run("validate").exit_code == 0
    done = run("validate", "--connect", "--json")
    assert done.exit_code == 1
    problems = json.loads(done.stdout)["problems"]
    assert [(problem["line"], problem["code"]) for problem in problems] == [
        (2, "bad_source"),
        (3, "bad_source"),
    ]
    assert "region of sales is String: no dates or times" in problems[0]["message"]


def test_every_command_shows_how_it_is_called(run: Run) -> None:
    def leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, below in command.commands.items() if isinstance(command, click.Group) else ():
            yield from leaves(below, (*words, name))

    for words in leaves(main, ()):
        done = run(*words, "--help")
        assert done.exit_code == 0
        assert f"\n  {' '.join(('endpoints', *words))}" in done.stdout, words


def test_no_definitions_at_all(run: Run, project: Path) -> None:
    (project / "endpoint_defs").rename(project / "elsewhere")
    done = run("validate")
    assert done.exit_code == 2
    assert "ENDPOINTS_DEFS" in done.stderr


def test_a_plan(run: Run) -> None:
    done = run("plan", "daily_sales", "--json")
    assert done.exit_code == 0
    plan = json.loads(done.stdout)
    assert (plan["endpoint"], plan["version"], plan["materializable"]) == ("daily_sales", 2, True)
    assert plan["reasons"] == []
    assert plan["dimensions"] == [{"variable": "region", "expression": "region", "operator": "="}]
    assert "GROUP BY" in plan["materialize_sql"]
    assert run("plan", "daily_sales", "--connect").exit_code == 0


def test_what_only_clickhouse_can_tell_of_a_plan(run: Run, project: Path) -> None:
    """Text that nothing but its own grammar finds wrong."""
    sql = "SELECT day FROM sales WHERE region = {region:String} FROBNICATE 3"
    write_endpoint(project, "odd", "current: 1\nversions: {1: {materialize: {}}}\n", sql)
    alone, asked = run("plan", "odd"), run("plan", "odd", "--connect")
    assert alone.exit_code == 0
    assert "By its text alone" in alone.stderr
    assert asked.exit_code == 1
    assert "By its text alone" not in asked.stderr
    assert "FROBNICATE" in asked.stdout
    assert "[query]" in asked.stdout
    checked = [
        json.loads(run("plan", "odd", "--json", *more).stdout)["checked"] for more in ((), ("--connect",))
    ]
    assert checked == [False, True]


RANGE = """SELECT region, sum(amount) AS total, any(day) AS some_day
FROM sales
WHERE region = {region:String} AND day >= {since:Date} AND day < {until:Date}
GROUP BY region
"""


def test_buckets_are_shown(run: Run, project: Path) -> None:
    sql = RANGE.replace(", any(day) AS some_day", "")
    buckets = "{since: {bucket: week}, until: {bucket: week}}"
    yaml = f"current: 1\nversions: {{1: {{materialize: {{}}, variables: {buckets}}}}}\n"
    write_endpoint(project, "ranges", yaml, sql)
    plan = json.loads(run("plan", "ranges", "--json").stdout)
    assert [d.get("bucket") for d in plan["dimensions"]] == [None, "week", "week"]
    assert len(plan["read"]["columns"]) == 2
    assert "day >= {since}, stored by the week" in run("plan", "ranges").stdout


def test_every_comparison_is_a_dimension_of_the_plan(run: Run, project: Path) -> None:
    sql = RANGE.replace(", any(day) AS some_day", "")
    write_endpoint(project, "ranges", "current: 1\nversions: {1: {materialize: {}}}\n", sql)
    done = run("plan", "ranges", "--json")
    plan = json.loads(done.stdout)
    assert plan["dimensions"] == [
        {"variable": "region", "expression": "region", "operator": "="},
        {"variable": "since", "expression": "day", "operator": ">="},
        {"variable": "until", "expression": "day", "operator": "<"},
    ]
    (state,) = plan["read"]["states"]
    assert state["aggregate"] == "sum(amount)"
    shown = run("plan", "ranges").stdout
    for part in (
        *plan["read"]["conditions"],
        "merges: sum(amount)",
        "Finished by",
        "FROM __asset",
        "GROUP BY",
    ):
        assert part in shown


def test_refusals_have_a_place_and_notes_name_aggregates(run: Run, project: Path) -> None:
    text = RANGE.replace("any(day)", "deltaSum(amount)")
    write_endpoint(project, "ranges", "current: 1\nversions: {1: {materialize: {}}}\n", text)
    done = run("plan", "ranges")
    assert done.exit_code == 1
    assert "endpoint_defs/ranges/v1.sql:1: deltaSum(amount)" in done.stdout
    assert "[aggregate]\n    Use `=`" in done.stdout
    sql = "SELECT any(amount) AS one FROM sales WHERE region = {region:String} GROUP BY day"
    write_endpoint(project, "one", "current: 1\nversions: {1: {materialize: {}}}\n", sql)
    (note,) = json.loads(run("plan", "one", "--json").stdout)["read"]["notes"]
    assert "any" in note
    assert f"note: {note}" in run("plan", "one").stdout


def test_an_asset_is_measured_before_it_is_made(run: Run, project: Path) -> None:
    done = run("plan", "daily_sales", "--measure", "--json")
    measured = json.loads(done.stdout)["measured"]
    assert (done.exit_code, measured["rows"], measured["max_asset_rows"]) == (0, 3, 100_000_000)
    assert measured["bytes"] > 0
    assert measured["dimensions"] == [{"expression": "region", "values": 2}]
    assert "3 rows of 100,000,000" in run("plan", "daily_sales", "--measure").stdout
    yaml = "current: 1\nversions: {1: {materialize: {}, limits: {max_asset_rows: 2}}}\n"
    write_endpoint(project, "small", yaml, "SELECT day FROM sales WHERE region = {region:String}")
    done = run("plan", "small", "--measure", "--json")
    plan = json.loads(done.stdout)
    assert (done.exit_code, plan["materializable"], plan["reasons"][0]["code"]) == (1, False, "too_large")
    assert "region has 2 distinct values" in plan["reasons"][0]["detail"]
    assert not (project / "lake").exists()


def test_why_there_is_no_plan(run: Run, project: Path) -> None:
    write_endpoint(project, "noise", "current: 1\nversions: {1: {}}\n", "SELECT rand() AS r FROM sales")
    done = run("plan", "noise", "--json")
    assert done.exit_code == 1
    plan = json.loads(done.stdout)
    assert (plan["materializable"], plan["materialize_sql"], plan["dimensions"]) == (False, None, [])
    (reason,) = plan["reasons"]
    assert reason["code"] == "nondeterministic"
    assert reason["detail"]
    assert f"[{reason['code']}]" in run("plan", "noise").stdout


def test_an_unknown_endpoint_names_near_ones(run: Run) -> None:
    for command in ("plan", "run", "status", "materialize"):
        done = run(command, "daily_sale")
        assert done.exit_code == 2, command
        assert "daily_sales" in done.stderr
    done = run("plan", "daily_sales@7")
    assert done.exit_code == 2
    assert "1, 2" in done.stderr


def test_a_broken_endpoint_sends_to_validate(run: Run, project: Path) -> None:
    write_endpoint(project, "broken", "current: 9\nversions: {1: {}}\n", "SELECT 1 AS one")
    done = run("plan", "broken")
    assert done.exit_code == 1
    assert "endpoints validate" in done.stderr


def test_a_new_endpoint_is_a_good_one(run: Run, project: Path) -> None:
    assert run("new", "page_views").exit_code == 0
    assert (project / "endpoint_defs" / "page_views" / "v1.sql").exists()
    assert run("validate").exit_code == 0
    assert run("plan", "page_views").exit_code == 0
    assert run("new", "Page_Views").exit_code == 2
    assert run("new", "../etc").exit_code == 2


def test_a_locked_version_does_not_change(run: Run, project: Path) -> None:
    assert json.loads(run("lock", "--json").stdout) == {"locked": ["daily_sales@1", "daily_sales@2"]}
    assert json.loads(run("lock", "--json").stdout) == {"locked": []}
    assert run("validate").exit_code == 0
    sql = project / "endpoint_defs" / "daily_sales" / "v2.sql"
    sql.write_text(sql.read_text().replace("sum(", "min("))
    done = run("validate")
    assert done.exit_code == 1
    assert "daily_sales" in done.stdout
    assert run("lock").exit_code == 1
