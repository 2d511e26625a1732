"""keys: shown once, kept as a hash, ended for good."""

from __future__ import annotations

import json
from pathlib import Path

import jwt

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


def test_a_signing_key_and_its_tokens(run: Run, project: Path) -> None:
    made = json.loads(run("keys", "create", "--name", "web", "--signing", "EdDSA", "--json").stdout)
    assert made["signing"] == made["signing_key"]["alg"] == "EdDSA"
    for file in (project / "lake").rglob("*"):
        assert file.is_dir() or made["signing_key"]["d"] not in file.read_text()
    (project / "web.jwk").write_text(json.dumps(made["signing_key"]))
    arguments = ("token", "daily_*", "--key", str(project / "web.jwk"), "--pin", "customer_id=a=b")
    text = run(*arguments, "--expires", "5m", "--subject", "ada").stdout.strip()
    claims = jwt.decode(text, options={"verify_signature": False})
    assert jwt.get_unverified_header(text)["kid"] == made["id"]
    assert (claims["pins"], claims["endpoints"], claims["sub"]) == (
        {"customer_id": "a=b"},
        ["daily_*"],
        "ada",
    )
    shown = json.loads(run(*arguments, "--json").stdout)
    assert (shown["kid"], shown["audience"]) == (made["id"], "endpoints")

    renewed = json.loads(run("keys", "rotate", made["id"], "--json").stdout)
    assert renewed["signing_key"]["x"] != made["signing_key"]["x"]
    assert renewed["signing_key"]["kid"] == renewed["id"]


def test_people_get_the_key_and_the_signing_key_as_two_lines(run: Run) -> None:
    lines = run("keys", "create", "--name", "web", "--signing", "ES256").stdout.splitlines()
    assert lines[0].startswith("ep_")
    assert json.loads(lines[1])["crv"] == "P-256"
    assert len(lines) == 2


def test_hs256_takes_its_secret_from_outside_the_lake(run: Run, project: Path, monkeypatch) -> None:
    refused = run("keys", "create", "--name", "web", "--signing", "HS256")
    assert refused.exit_code == 2
    assert "ENDPOINTS_TOKEN_SECRET" in refused.stderr
    monkeypatch.setenv("ENDPOINTS_TOKEN_SECRET", "secret outside the lake " * 2)
    made = json.loads(run("keys", "create", "--name", "web", "--signing", "HS256", "--json").stdout)
    assert made["signing_key"]["kty"] == "oct"
    for file in (project / "lake").rglob("*"):
        assert file.is_dir() or made["signing_key"]["k"] not in file.read_text()


def test_every_change_is_in_the_audit(run: Run) -> None:
    old = json.loads(run("keys", "create", "--name", "job", "--pin", "customer_id=acme", "--json").stdout)
    new = json.loads(run("keys", "rotate", old["id"], "--overlap", "1d", "--json").stdout)
    run("keys", "revoke", new["id"])
    entries = json.loads(run("keys", "audit", "--json").stdout)
    assert [(entry["what"], entry["key"]) for entry in entries] == [
        ("created", old["id"]), ("created", new["id"]), ("retires", old["id"]), ("revoked", new["id"]),
    ]  # fmt: skip
    assert all("@" in entry["who"] and entry["at"] for entry in entries)
    assert "acme" not in run("keys", "audit", "--json").stdout
    assert old["id"] in run("keys", "audit").stdout


def test_wrong_use_of_tokens(run: Run, project: Path) -> None:
    (project / "no.jwk").write_text("ep_not_a_jwk")
    (project / "empty.jwk").write_text("{}")
    made = json.loads(run("keys", "create", "--name", "web", "--signing", "EdDSA", "--json").stdout)
    (project / "web.jwk").write_text(json.dumps(made["signing_key"]))
    for arguments, said in {
        (): "--key",
        ("--key", "no.jwk"): "no JWK",
        ("--key", "empty.jwk"): "private JWK",
        ("--key", "web.jwk", "--expires", "25h"): "24h",
        ("--key", "web.jwk", "--expires", "0s"): "24h",
        ("--key", "web.jwk", "--pin", "x"): "NAME=VALUE",
    }.items():
        done = run("token", *[str(project / part) if part.endswith(".jwk") else part for part in arguments])
        assert done.exit_code == 2, arguments
        assert said in done.stderr
