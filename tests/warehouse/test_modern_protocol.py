"""The native warehouse against the protocol of ClickHouse 22.8 and later, answered by chDB."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.errors import BadQuery, WarehouseUnavailable
from endpoints.warehouse.native import NativeWarehouse
from endpoints.warehouse.protocol import Caps, Statement
from tests.warehouse.modern_server import ModernServer, modern_server
from tests.warehouse.parameters import PARAMETERS


@pytest.fixture(scope="module")
def server() -> Iterator[ModernServer]:
    with modern_server() as running:
        yield running


@pytest.fixture(scope="module")
def modern(server: ModernServer) -> Iterator[NativeWarehouse]:
    warehouse = NativeWarehouse(server.url)
    yield warehouse
    warehouse.close()


@pytest.mark.parametrize(("type_text", "value", "stored"), PARAMETERS)
def test_the_server_binds_parameters(
    server: ModernServer, modern: NativeWarehouse, ask: Any, type_text: str, value: Any, stored: Any
) -> None:
    sql = f"SELECT {{p:{type_text}}} AS x"
    assert ask(modern, sql, p=(type_text, value)).column("x").to_pylist() == [stored]
    text, _, parameters = server.queries[-1]
    assert text == sql
    assert set(parameters) == {"p"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=50))
def test_any_string_arrives_unchanged(modern: NativeWarehouse, ask: Any, text: str) -> None:
    assert ask(modern, "SELECT {s:String} AS s", s=("String", text)).to_pylist() == [{"s": text.encode()}]


@pytest.mark.parametrize("scale", range(10))
@pytest.mark.parametrize("zone", ["", ", 'Asia/Tokyo'"])
def test_datetime64_is_exact_whatever_the_zones(
    modern: NativeWarehouse, ask: Any, scale: int, zone: str
) -> None:
    """Past 2262 too, where the driver's nanoseconds wrap; the server's own zone is New York."""
    seconds = 12_345_678_901 if scale <= 6 else 9_000_000_000
    ticks = seconds * 10**scale + (10**scale) // 3
    target = f"DateTime64({scale}{zone})".replace("'", "''")
    sql = f"SELECT reinterpret(toInt64({ticks}), '{target}') AS t"
    table = ask(modern, sql)
    units = {"ms": 3, "us": 6, "ns": 9}[table.schema.field("t").type.unit]
    assert table.column("t").cast("int64").to_pylist() == [ticks * 10 ** (units - scale)]


def test_a_time_that_nanoseconds_cannot_hold_is_refused(modern: NativeWarehouse, ask: Any) -> None:
    with pytest.raises(BadQuery, match="2262"):
        ask(modern, "SELECT toDateTime64('2299-01-01 00:00:00', 7) AS t")


def test_limits_travel_as_settings(server: ModernServer, modern: NativeWarehouse, ask: Any) -> None:
    ask(modern, "SELECT 1 AS x SETTINGS max_threads = 1", timeout=0.5, max_rows=7, max_memory=1_000_000)
    _, sent, _ = server.queries[-1]
    assert sent["readonly"] == "1"
    assert sent["max_execution_time"] == "0.5"
    assert (sent["max_result_rows"], sent["result_overflow_mode"]) == ("7", "throw")
    assert (sent["max_memory_usage"], sent["max_threads"]) == ("1000000", "1")


def test_limits_not_given_leave_the_profiles_own(
    server: ModernServer, modern: NativeWarehouse, ask: Any
) -> None:
    ask(modern, "SELECT 1 AS x", timeout=None)
    _, sent, _ = server.queries[-1]
    assert not sent.keys() & {"max_execution_time", "max_result_rows", "max_memory_usage"}
    assert (sent["result_overflow_mode"], sent["timeout_overflow_mode"]) == ("throw", "throw")


def test_limits_are_stronger_than_the_querys_settings(
    server: ModernServer, modern: NativeWarehouse, ask: Any
) -> None:
    ask(
        modern,
        "SELECT 1 AS x SETTINGS max_execution_time = 99, readonly = 0, max_result_rows = 0",
        timeout=3,
        max_rows=5,
    )
    _, sent, _ = server.queries[-1]
    assert (sent["readonly"], sent["max_execution_time"], sent["max_result_rows"]) == ("1", "3.0", "5")


@pytest.mark.parametrize("readonly", [1, 2])
def test_profiles_that_are_readonly_already(ask: Any, readonly: int) -> None:
    with modern_server(readonly) as server:
        warehouse = NativeWarehouse(server.url)
        try:
            if readonly == 1:
                with pytest.raises(WarehouseUnavailable, match="readonly = 2"):
                    warehouse.ping()
            else:
                warehouse.ping()
                assert "readonly" not in server.queries[-1][1]
        finally:
            warehouse.close()


@pytest.mark.parametrize("fixed", [False, True])
def test_the_condition_cache_is_off_where_the_server_knows_it(
    caplog: pytest.LogCaptureFixture, ask: Any, fixed: bool
) -> None:
    """Of 26.9 it makes answers wrong. 18.16 does not know it, and refuses settings that it does not know."""
    with modern_server(fixed=fixed) as server:
        warehouse = NativeWarehouse(server.url)
        try:
            ask(warehouse, "SELECT 1 AS x")
            assert server.queries[-1][1].get("use_query_condition_cache") == (None if fixed else "0")
            warehouse.write(Statement("INSERT INTO FUNCTION null('x UInt8') SELECT 1"), {"max_threads": 1})
            assert server.queries[-1][1].get("use_query_condition_cache") == (None if fixed else "0")
        finally:
            warehouse.close()
    assert ("use_query_condition_cache is on" in caplog.text) is fixed


def test_the_clock_to_the_microsecond(server: ModernServer, modern: NativeWarehouse) -> None:
    info = modern.server()
    assert "now64(6)" in server.queries[-1][0]
    assert abs(info.now - datetime.now(UTC)) < timedelta(minutes=5)
    assert info.version == "26.9.2.1"


def test_errors_keep_their_code(modern: NativeWarehouse) -> None:
    with pytest.raises(BadQuery) as error:
        modern.run(Statement("SELECT nothing"), Caps())
    assert error.value.clickhouse_code == 47


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, in one file, that nobody has signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, form, secret))
    return path


def test_tls_is_verified(certificate: Path, ask: Any) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with modern_server(tls=context) as server:
        trusting = NativeWarehouse(f"{server.url}/default?ca_certs={certificate}")
        assert ask(trusting, "SELECT {x:UInt8} AS x", x=("UInt8", 7)).to_pylist() == [{"x": 7}]
        trusting.run(Statement("SELECT 1"), Caps()).cancel()
        trusting.close()
        with pytest.raises(WarehouseUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            NativeWarehouse(server.url).ping()
        elsewhere = server.url.replace("localhost", "127.0.0.1")
        with pytest.raises(WarehouseUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            NativeWarehouse(f"{elsewhere}/default?ca_certs={certificate}").ping()
