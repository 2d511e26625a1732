"""Tokens over HTTP: what their bearers may, and what ends them."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from endpoints import tokens
from serving.jwks import MAX_KEYS, Jwks, fetch_https, signers_in

SECRET = "token secret " * 4
SECOND = timedelta(seconds=1)
Bearer = Callable[..., httpx.Response]


class Web:
    """A key that signs, and requests with tokens of it."""

    def __init__(self, stand: Any, client: httpx.Client, algorithm: str = "EdDSA", **rights: Any) -> None:
        if algorithm == "HS256":
            public: Mapping[str, str] = {"alg": "HS256"}
        else:
            jwk = tokens.new_signing_key(algorithm)
            public = tokens.public_half(jwk)
        self.record, self.key = stand.keys.create("web", signing=public, **rights)
        self.jwk = tokens.secret_jwk(SECRET, self.record.id) if algorithm == "HS256" else jwk
        self.jwk = {**self.jwk, "kid": self.record.id}
        self.client = client

    def token(self, *, minutes: float = 15, audience: str = "endpoints", **claims: Any) -> str:
        expires_at = datetime.now(UTC) + timedelta(minutes=minutes)
        return tokens.mint(self.jwk, audience=audience, expires_at=expires_at, **claims)

    def get(self, path: str, token: str, **headers: str) -> httpx.Response:
        with httpx.Client(base_url=self.client.base_url, timeout=30) as browser:
            return browser.get(path, headers={"Authorization": f"Bearer {token}", **headers})


@pytest.fixture(scope="module")
def web(client: httpx.Client, shared_stand) -> Web:
    return Web(shared_stand, client, scopes=("run", "read"))


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


USAGE = "/endpoints/usage/run"


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "HS256"])
def test_a_browser_runs_what_its_token_says(serve_with, algorithm: str) -> None:
    stand, start = serve_with(token_secret=SECRET)
    web = Web(stand, start(), algorithm)
    token = web.token(pins={"customer_id": "acme"})
    answers = [web.get(USAGE, token), web.get(f"{USAGE}?customer_id=acme", token)]
    assert [len(answer.json()["results"]) for answer in answers] == [3, 3]
    assert code(web.get(f"{USAGE}?customer_id=bolt", token)) == (403, "pin_conflict")
    assert code(web.get("/endpoints/numbers/run?n=1", token)) == (403, "pin_not_applicable")
    assert code(web.get("/endpoints", token)) == (403, "missing_scope")
    assert web.get(USAGE, f"{token}x").status_code == 401


def test_hs256_needs_a_secret_outside_the_lake(serve_with) -> None:
    stand, start = serve_with()
    web = Web(stand, start(), "HS256")
    assert code(web.get("/endpoints/numbers/run?n=1", web.token())) == (401, "unauthenticated")


def test_rights_are_those_that_key_and_token_both_have(web: Web, client, shared_stand) -> None:
    run = "/endpoints/numbers/run?n=1"
    assert web.get(run, web.token()).status_code == 200
    assert code(web.get("/endpoints", web.token())) == (403, "missing_scope"), "unless it asks for more"
    assert web.get("/endpoints", web.token(scopes=["read", "admin"])).status_code == 200
    assert code(web.get(run, web.token(scopes=["read"]))) == (403, "missing_scope")
    broken = web.get("/endpoints", web.token(scopes=["admin"])).json()["endpoints"]
    assert not any(entry.get("problems") for entry in broken), "its key is no admin"

    some = Web(shared_stand, client, endpoints=("num*", "usage"), scopes=("run", "read"))
    assert some.get(run, some.token(endpoints=["*"])).status_code == 200
    assert some.get(run, some.token(endpoints=["numbers"])).status_code == 200
    assert code(some.get(run, some.token(endpoints=["usage"]))) == (404, "unknown_endpoint")
    assert code(some.get("/endpoints/hidden/run", some.token(endpoints=["hidden"]))) == (
        404,
        "unknown_endpoint",
    )
    listed = some.get("/endpoints", some.token(endpoints=["*s", "hidden"], scopes=["read"])).json()
    assert [entry["name"] for entry in listed["endpoints"]] == ["numbers"]


def test_pins_of_the_key_and_of_the_token_both_hold(client: httpx.Client, shared_stand) -> None:
    pinned = Web(shared_stand, client, pins={"customer_id": "acme"})
    assert len(pinned.get(USAGE, pinned.token()).json()["results"]) == 3
    same = pinned.token(pins={"customer_id": "acme"})
    assert len(pinned.get(USAGE, same).json()["results"]) == 3
    other = pinned.get(USAGE, pinned.token(pins={"customer_id": "bolt"}))
    assert code(other) == (403, "pin_conflict")
    assert "acme" not in other.text
    more = pinned.token(pins={"since": "2026-01-02"})
    assert code(pinned.get(USAGE, more)) == (403, "pin_not_applicable")
    assert pinned.get("/endpoints/since/run", more).json()["results"] == [["click", 2, 2]]
    assert code(pinned.get("/endpoints/since/run?since=2026-01-01", more)) == (403, "pin_conflict")
    assert code(pinned.get("/endpoints", pinned.token(scopes=["read", "run"]))) == (403, "missing_scope")


def test_a_token_never_gets_what_another_of_the_same_key_may(web: Web) -> None:
    acme, bolt = (web.token(pins={"customer_id": name}) for name in ("acme", "bolt"))
    for _ in range(3):
        assert len(web.get(USAGE, acme).json()["results"]) == 3
        assert len(web.get(USAGE, bolt).json()["results"]) == 2
        assert web.get(f"{USAGE}?customer_id=acme", bolt).status_code == 403
        assert web.get(f"{USAGE}?customer_id=acme", web.token()).status_code == 200


def test_what_is_not_taken(web: Web, client: httpx.Client, shared_stand) -> None:
    run = "/endpoints/numbers/run?n=1"
    other = tokens.new_signing_key("EdDSA")
    unknown = {**other, "kid": "0" * 16}
    expires_at = datetime.now(UTC) + timedelta(minutes=5)
    _, plain = shared_stand.keys.create("no signer", scopes=("run",))
    refused = [
        web.token(minutes=-1),
        web.token(minutes=24 * 60 + 1),
        web.token(audience="others"),
        tokens.mint({**other, "kid": web.record.id}, audience="endpoints", expires_at=expires_at),
        tokens.mint(unknown, audience="endpoints", expires_at=expires_at),
        tokens.mint({**other, "kid": plain.split("_")[1]}, audience="endpoints", expires_at=expires_at),
        tokens.mint({**other, "kid": "../../_keys/x"}, audience="endpoints", expires_at=expires_at),
        web.token()[:-2],
        "ey.ey.ey",
        "ey" * 3000,
        jwt.encode(
            {"aud": "endpoints", "exp": expires_at}, "", algorithm="none", headers={"kid": web.record.id}
        ),
    ]
    for token in refused:
        answer = web.get(run, token)
        assert code(answer) == (401, "unauthenticated"), token
        assert "www-authenticate" in answer.headers
        assert token not in answer.text
    assert web.get(run, web.token()).status_code == 200


def test_a_token_in_the_url_is_none(web: Web) -> None:
    with httpx.Client(base_url=web.client.base_url) as browser:
        assert browser.get(f"/endpoints/numbers/run?n=1&access_token={web.token()}").status_code == 401


def test_a_token_beside_a_key_is_two_credentials(web: Web) -> None:
    answer = web.get("/endpoints/numbers/run?n=1", web.token(), **{"X-API-Key": web.key})
    assert code(answer) == (400, "two_credentials")


def test_a_token_dies_with_its_key_and_at_its_time(client: httpx.Client, shared_stand) -> None:
    run = "/endpoints/numbers/run?n=1"
    web = Web(shared_stand, client)
    token, brief = web.token(), web.token(minutes=2 / 60)
    assert web.get(run, token).status_code == web.get(run, brief).status_code == 200
    shared_stand.until(lambda: web.get(run, brief).status_code == 401)
    assert web.get(run, token).status_code == 200
    shared_stand.keys.revoke(web.record.id)
    shared_stand.until(lambda: web.get(run, token).status_code == 401, seconds=5)


def test_keys_and_tokens_under_a_wall_clock_that_is_set(serve_with) -> None:
    """Each is good at its time by the wall, known to this process or not; no answer is out of turn."""
    stand, start = serve_with()
    ahead = timedelta()

    def wall() -> float:
        return time.time() + ahead / SECOND

    stand.prepare.append(lambda service: setattr(service.keys, "wall", wall))
    client = start()
    web = Web(stand, client)
    _, brief = stand.keys.create("brief", expires_at=datetime.now(UTC) + timedelta(hours=1))
    _, lasting = stand.keys.create("lasting")
    now, key = time.time(), jwt.PyJWK(web.jwk, algorithm="EdDSA")
    early, late = (
        jwt.encode(
            {"aud": "endpoints", "exp": int(now) + 20 * 3600, "nbf": int(now) + begins},
            key,
            algorithm="EdDSA",
            headers={"kid": web.record.id},
        )
        for begins in (-60, 3 * 3600)
    )
    run = "/endpoints/numbers/run?n=1"

    def taken() -> list[bool]:
        """Of the keys, then the tokens; the fast lane knows the keys' second and third requests."""
        bearers = [{"X-API-Key": key} for key in (brief, lasting)]
        bearers += [{"Authorization": f"Bearer {token}"} for token in (early, late)]
        with httpx.Client(base_url=client.base_url) as bare:
            found = [{bare.get(run, headers=bearer).status_code for _ in range(3)} for bearer in bearers]
        assert all(statuses in ({200}, {401}) for statuses in found), found
        return [statuses == {200} for statuses in found]

    assert taken() == [True, True, True, False]
    ahead = timedelta(hours=6)
    assert taken() == [False, True, True, True]
    ahead = timedelta()
    assert taken() == [True, True, True, False], "remembered, and yet its time has not come"
    ahead = timedelta(hours=-6)
    assert taken() == [True, True, False, False], "a life of 26 hours is too long for any token"
    ahead = timedelta(hours=21)
    assert taken() == [False, True, False, False]
    stand.keys.revoke(web.record.id)
    ahead = timedelta()
    bearer, url = {"Authorization": f"Bearer {early}"}, str(client.base_url.join(run))
    stand.until(lambda: httpx.get(url, headers=bearer).status_code == 401)
    assert taken() == [True, True, False, False]


def test_a_rotated_key_signs_anew_and_its_tokens_end_with_it(client: httpx.Client, shared_stand) -> None:
    web = Web(shared_stand, client)
    old = web.token()
    jwk = tokens.new_signing_key("EdDSA")
    with pytest.raises(Exception, match="signs if the old one does"):
        shared_stand.keys.rotate(web.record.id)
    grace = timedelta(seconds=3)
    record, _ = shared_stand.keys.rotate(web.record.id, overlap=grace, signing=tokens.public_half(jwk))
    expires_at = datetime.now(UTC) + timedelta(minutes=5)
    new = tokens.mint({**jwk, "kid": record.id}, audience="endpoints", expires_at=expires_at)
    for token in (old, new):
        assert web.get("/endpoints/numbers/run?n=1", token).status_code == 200
    shared_stand.until(lambda: web.get("/endpoints/numbers/run?n=1", old).status_code == 401, seconds=8)
    assert web.get("/endpoints/numbers/run?n=1", new).status_code == 200


def test_a_subject_has_a_rate_and_the_key_has_one_for_all(serve_with) -> None:
    stand, start = serve_with(subject_rate="2/minute")
    web = Web(stand, start(), rate="5/minute")
    ada, bob = web.token(subject="ada"), web.token(subject="bob")
    run = "/endpoints/numbers/run?n=1"
    assert [web.get(run, ada).status_code for _ in range(3)] == [200, 200, 429]
    again = web.get(run, web.token(subject="ada", minutes=3))
    assert code(again) == (429, "rate_limited"), "another token for the same subject"
    assert '"subject";r=0;' in again.headers["ratelimit"]
    assert [web.get(run, bob).status_code for _ in range(2)] == [200, 429], "the key's five are spent"


def test_browsers_may_send_tokens_from_listed_origins(web: Web) -> None:
    origin = "https://app.example.com"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    with httpx.Client(base_url=web.client.base_url) as browser:
        preflight = browser.options(USAGE, headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "GET" in preflight.headers["access-control-allow-methods"].split(", ")
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert {"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"} <= set(
        preflight.headers["vary"].split(", ")
    )
    for path, token in ((f"{USAGE}?customer_id=acme", web.token()), (USAGE, "ey.bad.token")):
        answer = web.get(path, token, Origin=origin)
        assert answer.headers["access-control-allow-origin"] == origin, "of a problem too"
        assert "access-control-allow-credentials" not in answer.headers, "no cookies here"
        assert "RateLimit" in answer.headers["access-control-expose-headers"].split(", ")
        assert "Origin" in answer.headers["vary"]
    for stranger in (
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "null",
        "http://app.example.com",
    ):
        answer = web.get(f"{USAGE}?customer_id=acme", web.token(), Origin=stranger)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "Origin" in answer.headers["vary"], "or a cache would give it to a listed one"


class Idp:
    """An https server with a certificate of its own, whose JWKS a test sets."""

    def __init__(self, folder: Path) -> None:
        self.body, self.status, self.asked = b"{}", 200, 0
        idp = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                idp.asked += 1
                self.send_response(idp.status)
                if idp.status == 302:
                    self.send_header("Location", "https://127.0.0.1:1/")
                self.send_header("Content-Length", str(len(idp.body)))
                self.end_headers()
                self.wfile.write(idp.body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.certificate = folder / "idp.pem"
        self.certificate.write_bytes(_certificate())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_port}/jwks"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def publish(self, **jwks: Mapping[str, Any]) -> None:
        self.body = json.dumps({"keys": [{**jwk, "kid": kid} for kid, jwk in jwks.items()]}).encode()


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def idp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Idp]:
    idp = Idp(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(idp.certificate))
    monkeypatch.setattr("serving.jwks.AGAIN_SECONDS", 0.1)
    yield idp
    idp.stop()


def _signed_by(key: Any, algorithm: str, kid: str, **claims: Any) -> str:
    claims = {"aud": "endpoints", "exp": datetime.now(UTC) + timedelta(minutes=5), **claims}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})


def test_the_operators_own_signers(serve_with, idp: Idp, caplog) -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True)
    idp.publish(first={**public, "alg": "RS256", "use": "sig"})
    stand, start = serve_with(jwks_url=idp.url, jwks_key="0" * 16)
    bounds, _ = stand.keys.create("people", endpoints=("usage", "numbers"), scopes=("run",))
    settings = stand.settings.model_copy(update={"jwks_key": bounds.id})
    stand.settings = settings
    client = start()
    web = Web(stand, client)
    token = _signed_by(rsa_key, "RS256", "first", sub="ada", pins={"customer_id": "acme"})
    assert len(web.get(USAGE, token).json()["results"]) == 3
    assert code(web.get("/endpoints/since/run?since=2026-01-01", token)) == (404, "unknown_endpoint")
    assert web.get("/endpoints/numbers/run?n=1", web.token()).status_code == 200, "keys sign beside it"

    next_jwk = tokens.new_signing_key("ES256")
    idp.publish(second=tokens.public_half(next_jwk))
    new = tokens.mint(
        {**next_jwk, "kid": "second"},
        audience="endpoints",
        expires_at=datetime.now(UTC) + timedelta(minutes=5),
    )
    stand.until(lambda: web.get("/endpoints/numbers/run?n=1", new).status_code == 200)
    assert code(web.get(USAGE, token)) == (401, "unauthenticated"), "its signer is withdrawn"

    for status, body in ((500, b""), (302, b""), (200, b"<html>"), (200, b"x" * 300_000)):
        idp.status, idp.body = status, body
        asked = idp.asked
        web.get("/endpoints/numbers/run?n=1", _signed_by(rsa_key, "RS256", "nobody"))  # has it look again
        stand.until(lambda asked=asked: idp.asked > asked + 1)
        assert web.get("/endpoints/numbers/run?n=1", new).status_code == 200, "the last good signers stay"
    assert "its last signers stay" in caplog.text

    stand.keys.revoke(bounds.id)
    stand.until(lambda: web.get("/endpoints/numbers/run?n=1", new).status_code == 401, seconds=5)


def test_an_unknown_certificate_is_refused(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_https(idp.url)
    jwks = Jwks(idp.url)
    assert not jwks.refresh()
    assert jwks.get("first") is None


def test_keys_in_a_jwks_that_are_left_out() -> None:
    good = tokens.public_half(tokens.new_signing_key("EdDSA"))
    document = {
        "keys": [
            {**good, "kid": "good"},
            {**good, "kid": "for encryption", "use": "enc"},
            {**good, "kid": "confused", "alg": "HS256"},
            {"kty": "oct", "k": "AAAA", "kid": "secret"},
            {"kty": ["OKP"], "kid": "odd"},
            {**good},
            {**good, "kid": 7},
            "text",
        ],
    }
    assert set(signers_in(json.dumps(document).encode())) == {"good"}
    for body in (b"[]", b"{}", b'{"keys": {}}', json.dumps({"keys": [good] * (MAX_KEYS + 1)}).encode()):
        with pytest.raises(ValueError, match="JWKS"):
            signers_in(body)
