from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.errors import InputError, SettingsError, StoreUnavailable
from endpoints.keys import KeyStore, UnknownKey, matches, parse_key
from endpoints.lake.store import Store
from endpoints.last_used import LastUsed
from endpoints.settings import Settings, load_settings

SECRET = "s" * 32
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now


class Counting(Store):
    gets = 0

    def get(self, key: str) -> bytes | None:
        self.gets += 1
        return super().get(key)


@pytest.fixture
def store(lake_url: str) -> Counting:
    return Counting(lake_url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(store: Store, clock: Clock) -> KeyStore:
    return KeyStore(store, SECRET, clock=clock)


@pytest.fixture
def disk_keys(tmp_path: Path, clock: Clock) -> KeyStore:
    return KeyStore(Store(f"file://{tmp_path}"), SECRET, clock=clock)


def test_a_key_works_and_another_secret_does_not(keys: KeyStore) -> None:
    record, text = keys.create("Acme's dashboard", rate="100/minute")
    key_id, secret = parse_key(text)
    found = keys.get(key_id)
    assert found == record
    assert matches(found, secret)
    assert not matches(found, secret[:-1] + ("a" if secret[-1] != "a" else "b"))
    assert not matches(found, "")
    assert record.scopes == {"run", "read"}
    assert record.endpoints == ("*",)


def test_the_secret_is_kept_nowhere(keys: KeyStore, store: Store, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    record, text = keys.create("k", pins={"customer_id": "acme-corp"})
    secret = parse_key(text)[1]
    bodies = b"".join(store.get(found.key) or b"" for found in store.list("_keys"))
    assert secret.encode() not in bodies
    assert secret not in repr(record)
    assert secret not in caplog.text
    assert "acme-corp" not in caplog.text, (
        "whose key it is does not go to the log, only which variable is pinned"
    )


def test_every_change_leaves_an_audit_line(disk_keys: KeyStore, caplog) -> None:
    caplog.set_level(logging.INFO, "endpoints.audit")
    record, _ = disk_keys.create("k", scopes=["admin"])
    renewed, _ = disk_keys.rotate(record.id, overlap=timedelta(days=1))
    disk_keys.revoke(renewed.id)
    lines = [r.getMessage() for r in caplog.records if r.name == "endpoints.audit"]
    whats = ["created", "created", "retires", "revoked"]
    assert [line.split()[2] for line in lines] == [f"{what}:" for what in whats]
    entries = list(disk_keys.audit.entries())
    assert [(entry.what, entry.key) for entry in entries] == list(
        zip(whats, [record.id, renewed.id, record.id, renewed.id], strict=True)
    )
    assert entries[1].details["rotated_from"] == record.id
    assert all(entry.signed and entry.who.count("@") == 1 for entry in entries)


def test_an_audit_entry_that_was_changed_shows(keys: KeyStore, store: Store, clock: Clock) -> None:
    for name in ("one", "two"):
        keys.create(name, pins={"customer_id": "acme-corp"})
        clock.now += timedelta(seconds=1)
    first = sorted(found.key for found in store.list("_audit"))[0]
    body = store.get(first) or b""
    assert b"acme-corp" not in body
    assert not store.put_new(first, b"{}"), "entries are created once"
    store.put(first, body.replace(b'"one"', b'"own"'))
    assert [(entry.details["name"], entry.signed) for entry in keys.audit.entries()] == [
        ("own", False), ("two", True),
    ]  # fmt: skip
    store.put(first, b"{")
    assert [entry.details["name"] for entry in keys.audit.entries()] == ["two"]


def test_a_key_is_not_shown_where_its_making_cannot_be_noted(keys: KeyStore, monkeypatch) -> None:
    def away(what: str, key_id: str, **details: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(keys.audit, "note", away)
    with pytest.raises(StoreUnavailable):
        keys.create("k")


def test_when_keys_were_last_used_is_merged_and_old_processes_are_folded_in(store: Store) -> None:
    one, two, late = LastUsed(store), LastUsed(store), LastUsed(store)
    now = datetime.now(UTC)
    one.write({"a": 100.0, "b": 500.0}, now)
    two.write({"a": 300.0}, now)
    assert {key: at.timestamp() for key, at in one.read().items()} == {"a": 300.0, "b": 500.0}
    late.write({"c": 1.0}, now + timedelta(hours=2))
    assert {key: at.timestamp() for key, at in one.read().items()} == {"a": 300.0, "b": 500.0, "c": 1.0}
    assert len(list(store.list("_used"))) == 1


def test_ids_and_secrets_do_not_repeat(disk_keys: KeyStore) -> None:
    made = [parse_key(disk_keys.create("k")[1]) for _ in range(50)]
    assert len({key_id for key_id, _ in made}) == len({secret for _, secret in made}) == 50


@given(st.from_regex(r"\Aep_[0-9a-f]{16}_[A-Za-z0-9]{43}\Z"))
def test_a_keys_text_has_its_two_parts(text: str) -> None:
    key_id, secret = parse_key(text)
    assert text == f"ep_{key_id}_{secret}"


@given(st.text(min_size=5) | st.from_regex(r"\Aep_[0-9a-f]{15}_[A-Za-z0-9]{42,44}\Z"))
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="this is not a key") as caught:
        parse_key(text)
    assert str(caught.value) == "this is not a key: keys look like ep_<id>_<secret>"


@pytest.mark.parametrize(
    "text", ["ep_0123456789abcdef_" + "a" * 43 + "\n", "EP_0123456789abcdef_" + "a" * 43, "ep__"]
)
def test_near_misses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        parse_key(text)


def test_revoking_cannot_be_undone(keys: KeyStore, store: Store) -> None:
    record, _ = keys.create("k")
    keys.revoke(record.id)
    keys.revoke(record.id)
    assert keys.get(record.id) is None
    assert keys.revoked() == {record.id}
    assert [found.id for found in keys.all()] == [record.id], "still listed"
    assert not store.put_new(f"_keys/{record.id}.revoked", b"")


def test_a_rotated_key_has_the_same_rights_and_ends_the_old(keys: KeyStore, clock: Clock) -> None:
    old, _ = keys.create(
        "k",
        endpoints=["landing_*"],
        pins={"customer_id": "x"},
        rate="5/second",
        expires_at=START + timedelta(days=9),
    )
    new, text = keys.rotate(old.id)
    assert keys.get(old.id) is None
    assert matches(new, parse_key(text)[1])
    assert new.rotated_from == old.id
    for right in ("name", "scopes", "endpoints", "pins", "rate", "expires_at"):
        assert getattr(new, right) == getattr(old, right)


def test_an_overlap_lets_both_work_for_a_while(keys: KeyStore, clock: Clock) -> None:
    old, _ = keys.create("k")
    keys.rotate(old.id, overlap=timedelta(hours=1))
    clock.now += timedelta(minutes=59)
    assert keys.get(old.id) is not None
    assert keys.revoked() == set()
    clock.now += timedelta(minutes=1)
    assert keys.get(old.id) is None
    assert keys.revoked() == {old.id}


def test_a_retiring_key_can_be_revoked_at_once(disk_keys: KeyStore) -> None:
    old, _ = disk_keys.create("k")
    disk_keys.rotate(old.id, overlap=timedelta(days=1))
    disk_keys.revoke(old.id)
    assert disk_keys.get(old.id) is None


def test_an_ended_key_cannot_be_rotated(disk_keys: KeyStore) -> None:
    record, _ = disk_keys.create("k")
    disk_keys.revoke(record.id)
    with pytest.raises(UnknownKey):
        disk_keys.rotate(record.id)


def test_a_key_with_pins_may_only_run(disk_keys: KeyStore) -> None:
    assert disk_keys.create("k", pins={"customer_id": "acme"})[0].scopes == {"run"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["run", "write"]}, "scopes"),
        ({"scopes": ["admin"], "pins": {"a": "b"}}, "scopes"),
        ({"scopes": ["read"], "pins": {"a": "b"}}, "scopes"),
        ({"scopes": ["run", "read"], "pins": {"a": "b"}}, "scopes"),
        ({"endpoints": []}, "endpoints"),
        ({"endpoints": ["../x"]}, "endpoints"),
        ({"pins": {"a b": "c"}}, "pins"),
        ({"rate": "fast"}, "rate"),
        ({"rate": "0/minute"}, "rate"),
        ({"expires_at": START}, "expires_at"),
    ],
)
def test_a_key_that_means_nothing_is_refused(disk_keys: KeyStore, wrong: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        disk_keys.create(**{"name": "k", **wrong})
    assert {error.field for error in caught.value.fields} == {field}
    assert disk_keys.all() == []


def _forge(store: Store, key_id: str, **changes: object) -> None:
    body = json.loads(store.get(f"_keys/{key_id}") or b"")
    store.put(f"_keys/{key_id}", json.dumps({**body, "record": {**body["record"], **changes}}).encode())


def test_a_record_that_was_changed_in_the_bucket_is_ignored(keys: KeyStore, store: Store, caplog) -> None:
    record, _ = keys.create("k", scopes=["run"])
    assert [found.id for found in keys.all()] == [record.id]
    _forge(store, record.id, scopes=["admin"])
    assert keys.get(record.id) is None
    assert keys.all() == []
    assert "ENDPOINTS_SECRET did not sign" in caplog.text


def test_a_record_copied_to_another_id_is_ignored(disk_keys: KeyStore, tmp_path: Path, caplog) -> None:
    record, _ = disk_keys.create("k")
    (tmp_path / "_keys/0123456789abcdef").write_bytes((tmp_path / "_keys" / record.id).read_bytes())
    assert disk_keys.get("0123456789abcdef") is None
    assert [found.id for found in disk_keys.all()] == [record.id]
    assert "another key's" in caplog.text


def test_records_of_another_secret_or_none_are_ignored(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    unsigned, _ = KeyStore(store, None).create("k")
    signed, _ = KeyStore(store, "other" * 8).create("k")
    assert KeyStore(store, SECRET).all() == []
    assert {record.id for record in KeyStore(store, None).all()} == {unsigned.id, signed.id}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"record": {}, "signature": null}', b'{"record": null}', b"\xff"]
)
def test_a_record_that_is_none_is_ignored(tmp_path: Path, body: bytes) -> None:
    store = Store(f"file://{tmp_path}")
    store.put("_keys/0123456789abcdef", body)
    for keys in (KeyStore(store, None), KeyStore(store, SECRET)):
        assert keys.all() == []
        assert keys.get("0123456789abcdef") is None


@pytest.mark.parametrize("key_id", ["", "../x", "0123456789ABCDEF", "0123456789abcdef.revoked", "_"])
def test_an_id_that_cannot_be_one_touches_no_object(disk_keys: KeyStore, tmp_path: Path, key_id: str) -> None:
    assert disk_keys.get(key_id) is None
    with pytest.raises(UnknownKey):
        disk_keys.revoke(key_id)
    assert not (tmp_path / "_keys").exists()


def test_reading_all_keys_again_costs_no_reads(keys: KeyStore, store: Counting) -> None:
    old, _ = keys.create("a")
    keys.rotate(old.id, overlap=timedelta(days=1))
    keys.all(), keys.revoked()
    store.gets = 0
    assert len(keys.all()) == 2
    assert keys.revoked() == set()
    assert store.gets == 0
    keys.create("c")
    assert len(keys.all()) == 3
    assert store.gets == 1


def test_an_unreadable_retirement_ends_the_key(disk_keys: KeyStore, tmp_path: Path) -> None:
    record, _ = disk_keys.create("k")
    (tmp_path / f"_keys/{record.id}.retires").write_bytes(b"{")
    assert disk_keys.get(record.id) is None
    assert disk_keys.revoked() == {record.id}


def test_keys_on_s3_need_a_secret(s3, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ENDPOINTS_KEYS_URL", s3.url)
    with pytest.raises(SettingsError, match=r"^ENDPOINTS_SECRET: must be set"):
        KeyStore.open(load_settings(tmp_path))
    monkeypatch.setenv("ENDPOINTS_SECRET", SECRET)
    record, _ = KeyStore.open(load_settings(tmp_path)).create("k")
    assert Store(s3.url).get(f"_keys/{record.id}") is not None


def test_keys_on_the_disk_do_not(tmp_path: Path) -> None:
    keys = KeyStore.open(Settings(project=tmp_path))
    record, _ = keys.create("k")
    assert (tmp_path / "lake/_keys" / record.id).is_file()
