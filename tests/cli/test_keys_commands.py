"""keys: shown once, kept as a hash, ended for good."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_a_key_from_its_making_to_its_end(run: Run, project: Path) -> None:
    made = json.loads(
        run(
            "keys", "create", "--name", "acme", "--pin", "customer_id=a=b", "--rate", "100/minute",
            "--endpoints", "daily_*,landing_*", "--expires", "90d", "--json",
        ).stdout
    )  # fmt: skip
    assert made["key"].startswith(f"ep_{made['id']}_")
    assert made["scopes"] == ["run"]
    (listed,) = json.loads(run("keys", "list", "--json").stdout)
    assert listed["pins"] == {"customer_id": "a=b"}
    assert listed["endpoints"] == ["daily_*", "landing_*"]
    assert (listed["rate"], listed["state"]) == ("100/minute", "active")

    secret = made["key"].rpartition("_")[2]
    for file in (project / "lake").rglob("*"):
        assert file.is_dir() or secret not in file.read_text()
    assert secret not in run("keys", "list").stdout

    assert run("keys", "revoke", made["id"]).exit_code == 0
    assert json.loads(run("keys", "list", "--json").stdout)[0]["state"] == "revoked"


def test_a_rotated_key_keeps_its_rights(run: Run) -> None:
    old = json.loads(run("keys", "create", "--name", "job", "--scopes", "run", "--json").stdout)
    new = json.loads(run("keys", "rotate", old["id"], "--json").stdout)
    assert new["key"] != old["key"]
    assert (new["name"], new["scopes"]) == ("job", ["run"])
    states = {row["id"]: row["state"] for row in json.loads(run("keys", "list", "--json").stdout)}
    assert states == {old["id"]: "revoked", new["id"]: "active"}


def test_people_get_the_key_alone_on_standard_output(run: Run) -> None:
    done = run("keys", "create", "--name", "me")
    assert done.stdout.startswith("ep_")
    assert len(done.stdout.split()) == 1
    assert "not shown again" in done.stderr


def test_wrong_use(run: Run) -> None:
    for arguments, said in {
        ("create",): "--name",
        ("create", "--name", "a", "--pin", "customer_id"): "NAME=VALUE",
        ("create", "--name", "a", "--expires", "soon"): "--expires",
        ("create", "--name", "a", "--scopes", "everything"): "scopes",
        ("create", "--name", "a", "--scopes", "run,read", "--pin", "a=b"): "may only run",
        ("create", "--name", "a", "--scopes", ""): "scopes",
        ("create", "--name", "a", "--rate", "fast"): "rate",
        ("revoke", "0123456789abcdef"): "keys list",
        ("rotate", "nonsense"): "keys list",
    }.items():
        done = run("keys", *arguments)
        assert done.exit_code == 2, arguments
        assert said in done.stderr
