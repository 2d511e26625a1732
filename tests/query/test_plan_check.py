"""What only the server can tell of a plan: its profile's settings, and its version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from endpoints.query.plan import Plan, Refused, check_plan, make_plan
from endpoints.warehouse.embedded import EmbeddedResult, EmbeddedWarehouse
from endpoints.warehouse.protocol import Caps, ServerInfo, Statement
from tests.parity.data import write_tables
from tests.parity.harness import version_of


class Server(EmbeddedWarehouse):
    """The real engine, with a profile and a version of our choice."""

    profile = ""
    reported = "26.9.1"

    def run(self, statement: Statement, caps: Caps, **more: object) -> EmbeddedResult:
        settings = f" SETTINGS {self.profile}" if self.profile and "system.settings" in statement.sql else ""
        return super().run(replace(statement, sql=statement.sql + settings), caps)

    def server(self) -> ServerInfo:
        return replace(super().server(), version=self.reported)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("data")
    write_tables(folder, seed=3)
    server = Server(folder, workers=1)
    yield server
    server.close()


def check(server: Server, sql: str) -> Plan | list[str]:
    version = version_of(sql)
    plan = make_plan(version)
    assert isinstance(plan, Plan)
    checked = check_plan(plan, version, server)
    return [reason.code for reason in checked.reasons] if isinstance(checked, Refused) else checked


SOUGHT = "SELECT id FROM t WHERE k = {k:String}"
MERGED = "SELECT count() AS c FROM t WHERE k = {k:String}"
WORDED = "SELECT id FROM t WHERE k LIKE {k:String}"


@pytest.mark.parametrize(
    ("profile", "refused"),
    [
        ("transform_null_in = 1", {MERGED, WORDED}),
        ("aggregate_functions_null_for_empty = 1", {MERGED, WORDED}),
        ("prefer_column_name_to_alias = 1", {SOUGHT, MERGED, WORDED}),
        ("max_threads = 1", set()),
    ],
)
def test_profiles_that_change_answers(
    server: Server, monkeypatch: pytest.MonkeyPatch, profile: str, refused: set[str]
) -> None:
    monkeypatch.setattr(Server, "profile", profile)
    for sql in (SOUGHT, MERGED, WORDED):
        assert (check(server, sql) == ["settings"]) == (sql in refused), sql


def test_servers_that_finishing_was_not_tested_beside(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "reported", "25.3.2")
    assert isinstance(check(server, SOUGHT), Plan)
    assert check(server, MERGED) == ["version"]
    assert check(server, WORDED) == ["version"]


def test_an_old_server_is_told_what_it_can_serve(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "reported", "18.16.1")
    version = version_of(MERGED)
    plan = make_plan(version)
    assert isinstance(plan, Plan)
    checked = check_plan(plan, version, server)
    assert isinstance(checked, Refused)
    assert "ClickHouse 26.9" in checked.reasons[0].detail
    assert "GROUP BY" in checked.reasons[0].fix
    advised = check(
        server, "SELECT k, count() AS c FROM t WHERE k = {k:String} AND i >= {i:Int64} GROUP BY k, i"
    )
    assert isinstance(advised, Plan), advised


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT id, CAST(k AS Dynamic) AS v FROM t WHERE k = {k:String}", "column 'v' has type Dynamic"),
        ("SELECT id, CAST(k AS Variant(String, UInt8)) AS v FROM t", "Select toJSONString(v) or variantEl"),
        ("SELECT k, uniqState(id) AS s FROM t GROUP BY k", "Select finalizeAggregation(s) instead"),
        ("SELECT id AS a, id AS a FROM t", "two columns are named 'a'"),
        ("SELECT id FROM t WHERE CAST(k AS Dynamic) LIKE {k:String}", "column 'CAST(k AS Dynamic)' has type"),
    ],
)
def test_columns_that_cannot_be_stored_are_named(server: Server, sql: str, said: str) -> None:
    version = version_of(sql)
    plan = make_plan(version)
    assert isinstance(plan, Plan)
    checked = check_plan(plan, version, server)
    assert isinstance(checked, Refused)
    assert [reason.code for reason in checked.reasons] == ["unstorable"]
    assert said in checked.reasons[0].detail


def test_what_is_not_known_before(server: Server) -> None:
    checked = check(server, "SELECT * FROM t WHERE k = {k:String}")
    assert isinstance(checked, Plan)
    assert checked.width == 15
    assert checked.materialize_sql.endswith("ORDER BY __d0, " + ", ".join(map(str, range(1, 16))))
