"""What a deployed process writes: a line for each request, and nothing in any line that is not the log's."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from endpoints.errors import BadQuery, EndpointsError, QueryTimeout, Unaligned, WarehouseUnavailable
from endpoints.keys import KeyStore
from endpoints.settings import Settings
from serving.logs import JsonLines, TextLines, told
from tests.serving.deployed import define, deployed, free_port, hello_project

MARKER = "mArKeR"
WRONG = {"Authorization": f"Bearer ep_0123456789abcdef_{MARKER}"}
TOKEN = {"Authorization": f"Bearer eyJhbGciOiJub25lIn0.{MARKER}.x"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = hello_project(tmp_path)
    define(
        folder, "number", "SELECT toUInt32({text:String}) AS n, throwIf({text:String} = 'x', 'mArKeR') AS t"
    )
    define(folder, "identity", "SELECT toUUID({text:String}) AS id")
    return folder


def drive(client: httpx.Client) -> list[tuple[str, int]]:
    """Requests that hold the marker wherever a caller can put it; their ids and statuses."""

    def get(path: str, **options: object) -> httpx.Response:
        return client.get(path, **options)  # type: ignore[arg-type]

    answers = [
        get("/endpoints/hello/run", params={"name": MARKER}),
        get("/endpoints/hello/run", params={"name": MARKER}),
        get("/endpoints/hello/run", params={"nme": MARKER}),
        get("/endpoints/number/run", params={"text": MARKER}),
        get("/endpoints/identity/run", params={"text": MARKER}),
        get(f"/endpoints/{MARKER}/run"),
        get(f"/{MARKER}/run?x={MARKER}"),
        get("/endpoints/hello/run", params={"name": "x", "cursor": MARKER}),
        get("/endpoints/hello/run", headers={"If-None-Match": f'W/"{MARKER}"', "Accept": f"text/{MARKER}"}),
        get("/endpoints/hello/run", headers=WRONG),
        get("/endpoints/hello/run", headers=TOKEN),
        client.post("/endpoints/number/run", json={"variables": {"text": MARKER}}),
        client.post("/endpoints/number/run", content=f'{{"{MARKER}'),
        client.request("DELETE", "/endpoints/hello/run"),
        get("/endpoints/number/openapi.json"),
        get("/readyz"),
    ]
    return [(answer.headers["x-request-id"], answer.status_code) for answer in answers]


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_line_holds_what_a_caller_sent_nor_sql(project: Path, form: str) -> None:
    _, key = KeyStore.open(Settings(project=project)).create("me", scopes=("run", "read"))
    port = free_port()
    variables = {"ENDPOINTS_LOG": form, "ENDPOINTS_LOG_LEVEL": "debug"}
    with deployed(["serving"], project, port, **variables) as running:
        headers = {"X-API-Key": key}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            for alone in (WRONG, TOKEN):
                httpx.get(f"{client.base_url}/endpoints/hello/run", headers=alone)
            asked = drive(client)
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=60)
    assert running.returncode in (0, -signal.SIGTERM)
    assert not any(status == 500 for _, status in asked), said
    for secret in (MARKER, MARKER.lower(), key, key.rpartition("_")[2], "SELECT"):
        assert secret not in said
    assert "live query live-" in said, "what failed is told of"
    if form == "json":
        lines = [json.loads(line) for line in said.splitlines()[1:]]  # the first names the address
        told_of = {(line["request_id"], line["status"]) for line in lines if "status" in line}
        assert set(asked) <= told_of
        first = next(line for line in lines if line["request_id"] == asked[0][0] and "status" in line)
        assert (first["route"], first["endpoint"], first["source"]) == (
            "/endpoints/{name}/run",
            "hello",
            "live",
        )
        assert first["key"] == key.split("_")[1]
        assert first["bytes"] > 0
        failed = [line for line in lines if line["request_id"] == asked[3][0]]
        assert {line["logger"] for line in failed} >= {"serving.live", "serving.requests"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BadQuery("Cannot parse 'mArKeR'", 6), "BadQuery (ClickHouse code 6)"),
        (QueryTimeout("mArKeR", 159), "QueryTimeout (ClickHouse code 159)"),
        (WarehouseUnavailable("Connection refused"), "WarehouseUnavailable: Connection refused"),
        (Unaligned("mArKeR"), "unaligned"),
        (EndpointsError("mArKeR"), "EndpointsError"),
        (KeyError("mArKeR"), "KeyError"),
    ],
)
def test_what_is_told_of_an_error(error: Exception, text: str) -> None:
    assert told(error) == text


@pytest.mark.parametrize("form", [JsonLines, TextLines])
def test_of_an_exception_kinds_and_places(form: Callable[[], logging.Formatter], caplog) -> None:
    try:
        try:
            {}[MARKER]
        except KeyError as error:
            raise ValueError(MARKER) from error
    except ValueError:
        logging.getLogger("serving.test").exception("it failed")
    line = form().format(caplog.records[-1])
    assert MARKER not in line
    assert "ValueError" in line
    assert "KeyError" in line
    assert "test_logs.py:" in line
