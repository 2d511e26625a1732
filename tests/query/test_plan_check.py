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


def test_what_is_not_known_before(server: Server) -> None:
    checked = check(server, "SELECT * FROM t WHERE k = {k:String}")
    assert isinstance(checked, Plan)
    assert checked.width == 15
    assert checked.materialize_sql.endswith("ORDER BY __d0, " + ", ".join(map(str, range(1, 16))))
