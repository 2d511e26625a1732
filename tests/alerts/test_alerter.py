"""Alerts end to end: from the lake, through Apprise, to a webhook and a mail server; and what survives."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from endpoints.alerts.alerter import Alerter, Told, Watched
from endpoints.alerts.conditions import FailedRun
from endpoints.alerts.journal import Journal
from endpoints.alerts.routes import read_routes
from endpoints.definition import Definitions, load_definitions
from endpoints.errors import SettingsError
from endpoints.lake.layout import ALERTS
from endpoints.lake.manifest import Manifest, PartitionEntry, PartitionFailure
from endpoints.lake.publish import Lake
from endpoints.lake.store import Store
from endpoints.settings import Settings, load_settings
from endpoints.usage import RunRecord, alike, write

if TYPE_CHECKING:
    from tests.alerts.conftest import Mailbox
    from tests.conftest import Webhook

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
Heads = Mapping[tuple[str, int], Manifest]


class World:
    """Endpoints, their manifests, and daemons that look at them, one lake for all."""

    def __init__(self, folder: Path, lake_url: str) -> None:
        self.folder, self.lake = folder, Lake(Store(lake_url))
        self.heads: dict[tuple[str, int], Manifest] = {}

    def define(self, *names: str, **endpoint: Any) -> None:
        for name in names:
            home = self.folder / "defs" / name
            home.mkdir(parents=True)
            (home / "v1.sql").write_text("SELECT item FROM sales")
            version = {"freshness": "1h", "materialize": {"schedule": "hourly"}}
            about = {"current": 1, "versions": {1: version}, **endpoint}
            (home / "endpoint.yaml").write_text(yaml.safe_dump(about))
        for name in names:
            self.publish(name)

    @property
    def definitions(self) -> Definitions:
        loaded = load_definitions(self.folder / "defs")
        assert not loaded.problems, loaded.problems
        return loaded

    def publish(self, name: str, at: datetime = NOW, error: str = "") -> None:
        """A snapshot made at a time; with `error` its last try failed then."""
        version = self.definitions.version(name)
        entry = PartitionEntry((), (), at, version.fingerprint, "run-1", "a", 3, 30, 1)
        failure = PartitionFailure(
            "failed", "a", "run-2", version.fingerprint, at, "engine text", False, "run", error
        )
        self.heads[name, 1] = Manifest(
            1, name, 1, "a", "run-1", at, "failed" if error else "published", version.fingerprint,
            partitions={"all": entry}, failures={"all": failure} if error else {},
        )  # fmt: skip

    def daemon(self, *urls: str, **settings: Any) -> Alerter:
        made = Settings(project=self.folder, alerts=urls, **settings)
        endpoints = self.definitions.endpoints.values()
        watched = [
            Watched(endpoint, version) for endpoint in endpoints for version in endpoint.versions.values()
        ]
        return Alerter(watched, self.lake, made)

    def look(
        self, daemon: Alerter, at: datetime, runs: Mapping[tuple[str, int], FailedRun] | None = None
    ) -> Told:
        return daemon.look(self.heads, runs or {}, at)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, f"file://{tmp_path / 'lake'}")


def test_a_webhook_gets_one_clear_message(world: World, webhook: Webhook) -> None:
    world.define("sales", owner="growth@example.com")
    daemon = world.daemon(webhook.url, dagster_url="https://me:secret@dagster.example.com/")
    assert world.look(daemon, NOW).sent == 0
    world.publish("sales", NOW, error="ClickHouse did not answer.")
    assert world.look(daemon, NOW + 5 * MINUTE).sent == 1
    [post] = webhook.posts
    assert post["title"] == "sales@1: failed"
    assert post["type"] == "failure"
    assert post["message"].splitlines() == [
        "ClickHouse did not answer.",
        "Endpoint: sales, version 1",
        "Since: 2026-06-01 12:00 UTC (5 min)",
        "Called by: not known",
        "Owner: growth@example.com",
        "See: https://dagster.example.com/runs/run-2",
    ]
    world.look(daemon, NOW + 6 * MINUTE)
    world.publish("sales", NOW + 7 * MINUTE)
    world.look(daemon, NOW + 65 * MINUTE)
    assert webhook.titles == ["sales@1: failed", "sales@1: recovered (failed)"]
    assert webhook.posts[1]["message"].startswith("No longer failed, after 1 h 5 min.")
    assert webhook.posts[1]["type"] == "success"


def test_mail_goes_to_the_owners_route(world: World, webhook: Webhook, mailbox: tuple[Mailbox, str]) -> None:
    """Commas between recipients part nothing; whoever names no route is told by the URLs without a name."""
    box, url = mailbox
    world.define("sales", alerts=["growth"])
    world.define("stock")
    world.define("secret", alerts=[])
    alerts = f"{webhook.url}, growth={url}ann@example.com,bob@example.com"
    (world.folder / ".env").write_text(f"ENDPOINTS_ALERTS={alerts}\n")
    daemon = world.daemon(*load_settings(world.folder).alerts)
    world.look(daemon, NOW + 2 * HOUR)
    assert webhook.titles == ["stock@1: stale"]
    assert {(mail.to, mail.subject) for mail in box.mails} == {
        (("ann@example.com",), "sales@1: stale"),
        (("bob@example.com",), "sales@1: stale"),
    }
    assert "Its rows are older than the 1h that it promises." in box.mails[0].text
    assert "Since: 2026-06-01 13:00 UTC (1 h 0 min)" in box.mails[0].text


def test_a_route_that_is_not_configured_goes_where_the_others_go(world: World, webhook: Webhook) -> None:
    world.define("sales", alerts=["nowhere"])
    world.look(world.daemon(webhook.url), NOW + 2 * HOUR)
    assert webhook.titles == ["sales@1: stale"]


def test_restarts_and_other_daemons_tell_nothing_twice(world: World, webhook: Webhook) -> None:
    world.define("sales")
    for minute in range(5):
        world.look(world.daemon(webhook.url), NOW + 2 * HOUR + minute * MINUTE)
    assert webhook.titles == ["sales@1: stale"]


def test_of_two_daemons_that_look_at_once_one_sends(
    world: World, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.define("sales")
    one, other = world.daemon(webhook.url), world.daemon(webhook.url)
    read = Journal.read
    told: list[Told] = []

    def read_while_the_other_decides(journal: Journal) -> Any:
        found = read(journal)
        if not told:
            told.append(Told())
            told.append(world.look(other, NOW + 2 * HOUR))
        return found

    monkeypatch.setattr(Journal, "read", read_while_the_other_decides)
    assert world.look(one, NOW + 2 * HOUR).overtaken
    assert told[1].sent == 1
    assert webhook.titles == ["sales@1: stale"]


def test_what_cannot_be_delivered_is_tried_again_later_and_later(world: World, webhook: Webhook) -> None:
    world.define("sales")
    webhook.status = 500
    daemon, start = world.daemon(webhook.url), NOW + 2 * HOUR
    first = world.look(daemon, start)
    assert (first.sent, first.waiting) == (0, 1)
    assert first.undelivered == ("unnamed 1 (json) did not take 'sales@1: stale'",)
    tried = []
    for minute in range(1, 20):
        before = webhook.refused
        world.look(world.daemon(webhook.url), start + minute * MINUTE)
        tried += [minute] if webhook.refused > before else []
    assert tried == [1, 3, 7, 15]
    webhook.status = 200
    assert world.look(daemon, start + 31 * MINUTE).sent == 1
    assert world.look(daemon, start + 60 * MINUTE).sent == 0
    assert webhook.titles == ["sales@1: stale"]


def test_only_those_who_did_not_get_it_are_tried_again(
    world: World, webhook: Webhook, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    world.define("sales")
    webhook.status = 500
    daemon = world.daemon(webhook.url, f"{url}ann@example.com")
    world.look(daemon, NOW + 2 * HOUR)
    webhook.status = 200
    world.look(daemon, NOW + 2 * HOUR + MINUTE)
    assert (len(webhook.posts), len(box.mails)) == (1, 1)


def test_a_daemon_killed_while_sending_is_replaced(
    world: World, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.define("sales")
    dying = world.daemon(webhook.url)

    def die(*_: object) -> Told:
        raise KeyboardInterrupt

    monkeypatch.setattr(dying, "_deliver", die)
    with pytest.raises(KeyboardInterrupt):
        world.look(dying, NOW + 2 * HOUR)
    assert world.look(world.daemon(webhook.url), NOW + 2 * HOUR + MINUTE).sent == 0, "it may be at it yet"
    assert world.look(world.daemon(webhook.url), NOW + 2 * HOUR + 3 * MINUTE).sent == 1


def test_it_is_given_up_after_a_day(world: World, webhook: Webhook) -> None:
    world.define("sales")
    webhook.status = 500
    daemon = world.daemon(webhook.url)
    assert world.look(daemon, NOW + 2 * HOUR).waiting == 1
    assert world.look(daemon, NOW + 27 * HOUR).waiting == 0


def test_many_at_once_are_one_message(world: World, webhook: Webhook) -> None:
    world.define(*(f"e{number:02}" for number in range(30)))
    world.look(world.daemon(webhook.url), NOW + 2 * HOUR)
    [post] = webhook.posts
    assert post["title"] == "Endpoints: 30 stale"
    lines = post["message"].splitlines()
    assert lines[0].startswith("e00@1: stale. Its rows are older")
    assert lines[-1] == "… and 10 more"


def test_a_sunset_is_told_of_those_who_still_call(world: World, webhook: Webhook) -> None:
    """Who calls comes from recorded usage; where nobody calls any more, nobody needs to hear of it."""
    about = {"sunset": "2026-06-20"}
    for name in ("used", "unused"):
        home = world.folder / "defs" / name
        home.mkdir(parents=True)
        for number in (1, 2):
            (home / f"v{number}.sql").write_text("SELECT item FROM sales")
        (home / "endpoint.yaml").write_text(yaml.safe_dump({"current": 2, "versions": {1: about, 2: {}}}))
    at = (NOW - HOUR).timestamp()
    runs = [
        RunRecord(at, "used", 1, key, "live", None, 200, 0.1, 1, 10, False)
        for key in ("retool", "retool", "app")
    ]
    other = RunRecord(at, "unused", 2, "app", "live", None, 200, 0.1, 1, 10, False)
    write(world.lake.store, "run", alike([*runs, other]))
    daemon = world.daemon(webhook.url)
    world.look(daemon, NOW)
    world.look(daemon, NOW + HOUR)
    [post] = webhook.posts
    assert post["title"] == "used@1: sunset is near"
    assert "Called by: retool, app (3 calls in 7 days)" in post["message"]
    assert post["message"].startswith("From 2026-06-20 (UTC) on callers who name this version get 410.")


def test_a_run_that_died_is_remembered_until_the_lake_hears_of_another(
    world: World, webhook: Webhook
) -> None:
    world.define("sales")
    daemon = world.daemon(webhook.url)
    died = FailedRun("run-7", NOW + MINUTE)
    world.look(daemon, NOW + 2 * MINUTE, {("sales", 1): died, ("gone", 1): died})
    world.look(world.daemon(webhook.url), NOW + 3 * MINUTE)
    assert webhook.titles == ["sales@1: failed"]
    assert webhook.posts[0]["message"].endswith("/runs/run-7")
    world.publish("sales", NOW + 4 * MINUTE)
    world.look(daemon, NOW + 5 * MINUTE)
    assert webhook.titles == ["sales@1: failed", "sales@1: recovered (failed)"]


def test_a_stale_version_that_fails_has_not_recovered(world: World, webhook: Webhook) -> None:
    world.define("sales")
    daemon = world.daemon(webhook.url)
    world.look(daemon, NOW + 2 * HOUR)
    old = world.heads["sales", 1].partitions
    world.publish("sales", NOW + 2 * HOUR, error="ClickHouse did not answer.")
    failed = world.heads["sales", 1]
    world.heads["sales", 1] = replace(failed, partitions=old)
    world.look(daemon, NOW + 3 * HOUR)
    assert webhook.titles == ["sales@1: stale", "sales@1: failed"]
    world.publish("sales", NOW + 4 * HOUR)
    world.look(daemon, NOW + 4 * HOUR)
    assert set(webhook.titles[2:]) == {"sales@1: recovered (stale)", "sales@1: recovered (failed)"}


def test_a_version_that_fails_until_it_is_stale_is_told_of_once(world: World, webhook: Webhook) -> None:
    world.define("sales")
    world.publish("sales", NOW, error="ClickHouse did not answer.")
    for hour in range(4):
        world.look(world.daemon(webhook.url), NOW + hour * HOUR)
    assert webhook.titles == ["sales@1: failed"]


def test_nothing_is_written_while_nothing_changes(world: World, webhook: Webhook) -> None:
    world.define("sales")
    daemon = world.daemon(webhook.url)
    for minute in range(3):
        world.look(daemon, NOW + minute * MINUTE)
    assert not list(world.lake.store.list(ALERTS))


def test_a_memory_that_cannot_be_read_is_forgotten(world: World, webhook: Webhook) -> None:
    world.define("sales")
    world.lake.store.put(f"{ALERTS}/{7:020}.json", b'{"format": 99}')
    world.look(world.daemon(webhook.url), NOW + 2 * HOUR)
    assert webhook.titles == ["sales@1: stale"]
    assert Journal(world.lake.store).read()[0] == 9


def test_on_s3(tmp_path: Path, s3: Any, webhook: Webhook) -> None:
    world = World(tmp_path, s3.url)
    world.define("sales")
    world.look(world.daemon(webhook.url), NOW + 2 * HOUR)
    world.look(world.daemon(webhook.url), NOW + 2 * HOUR + MINUTE)
    assert webhook.titles == ["sales@1: stale"]


def test_urls_are_secrets(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs, nor what ticks say, nor the lake, nor a message of a wrong setting hold them."""
    world.define("sales")
    url = "json://user:pa55word@127.0.0.1:1/T0KEN"
    caplog.set_level(logging.DEBUG)
    daemon = world.daemon(url, "growth=nosuch://pa55word/T0KEN")
    told = world.look(daemon, NOW + 2 * HOUR)
    assert len(told.undelivered) == 1
    stored = b"".join(world.lake.store.get(found.key) or b"" for found in world.lake.store.list(ALERTS))
    said = [caplog.text, str(told), repr(told), stored.decode(), repr(daemon.__dict__), repr(read_routes)]
    said.append(repr(Settings(project=world.folder, alerts=(url,))))
    for text in said:
        assert "pa55word" not in text
        assert "T0KEN" not in text


@pytest.mark.parametrize("value", ["pa55word", "Growth=slack://pa55word", "slack://a, ,, pa55word"])
def test_a_wrong_setting_is_refused_without_its_value(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text(f"ENDPOINTS_ALERTS={value}\n")
    with pytest.raises(SettingsError, match=r"ENDPOINTS_ALERTS: .*growth=slack://") as raised:
        load_settings(tmp_path)
    assert "pa55word" not in str(raised.value)
