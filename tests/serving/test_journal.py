"""Usage on its way to the lake, over a store that fails and processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from endpoints.errors import StoreUnavailable
from endpoints.lake.store import Store
from endpoints.usage import RunRecord, read
from serving.journal import QUEUE_ROWS, Journal

Serve = Callable[..., httpx.Client]


def run(n: int) -> RunRecord:
    return RunRecord(time.time(), "usage", 1, "k1", "live", "missing", 200, 0.1, n, 9, cached=False)


def kept(store: Store) -> list[int]:
    now = datetime.now(UTC)
    return sorted(read(store, now - timedelta(hours=2), now + timedelta(minutes=1))["rows"].to_list())


def until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class Flaky(Store):
    down = False

    def put(self, key: str, body: bytes) -> None:
        if self.down:
            raise StoreUnavailable("down")
        super().put(key, body)


@pytest.fixture
def store(tmp_path: Path) -> Flaky:
    (tmp_path / "lake").mkdir()
    return Flaky(f"file://{tmp_path / 'lake'}")


def journal(store: Store, tmp_path: Path, **changes: int | float) -> Journal:
    made = Journal(store, tmp_path / "usage", **{"most_bytes": 2**20, "send_every": 0.1, **changes})
    made.start()
    return made


def test_runs_reach_the_lake_while_the_process_lives(store: Flaky, tmp_path: Path) -> None:
    ours = journal(store, tmp_path)
    for n in range(5):
        ours.record(run(n))
    until(lambda: kept(store) == [0, 1, 2, 3, 4])
    ours.record(run(5))
    ours.stop()
    assert kept(store) == [0, 1, 2, 3, 4, 5], "what is left goes when the process ends"
    assert not list((tmp_path / "usage").iterdir())


def test_a_store_that_is_away_gets_them_later(store: Flaky, tmp_path: Path) -> None:
    store.down = True
    ours = journal(store, tmp_path)
    ours.record(run(1))
    until(lambda: any((tmp_path / "usage").glob("*")))
    ours.stop()
    assert kept(store) == []
    store.down = False
    heir = journal(store, tmp_path)
    until(lambda: kept(store) == [1])
    heir.stop()


def test_what_is_too_much_is_counted(store: Flaky, tmp_path: Path) -> None:
    store.down = True
    ours = journal(store, tmp_path, most_bytes=10)
    for n in range(3):
        ours.record(run(n))
        until(lambda n=n: ours.dropped + len(list((tmp_path / "usage").glob("*"))) >= n + 1)
        time.sleep(0.4)  # each in a file of its own
    ours.stop()
    assert ours.dropped == 2
    quiet = Journal(store, tmp_path / "other", most_bytes=10)
    for n in range(QUEUE_ROWS + 7):
        quiet.record(run(n))
    assert quiet.dropped == 7


CHILD = """
import sys, time
from pathlib import Path
from endpoints.lake.store import Store
from serving.journal import Journal
from tests_run import run
ours = Journal(Store(sys.argv[1]), Path(sys.argv[2]), most_bytes=2**20, send_every=60)
ours.start()
for n in range(100):
    ours.record(run(n))
time.sleep(1)
print("written", flush=True)
time.sleep(60)
"""


def test_a_killed_process_loses_nothing_that_was_written(store: Flaky, tmp_path: Path) -> None:
    (tmp_path / "tests_run.py").write_text(
        "import time\nfrom endpoints.usage import RunRecord\n"
        "def run(n): return RunRecord(time.time(),'usage',1,'k1','live',None,200,0.1,n,9,False)\n"
    )
    command = [sys.executable, "-c", CHILD, f"file://{tmp_path / 'lake'}", str(tmp_path / "usage")]
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        heir = journal(store, tmp_path)
        time.sleep(0.5)
        assert kept(store) == [], "a journal that is being written is left alone"
        with next((tmp_path / "usage").glob("*")).open("ab") as file:
            file.write(b'[1767268800.0,"usa')  # a line that is being written
        child.send_signal(signal.SIGKILL)
    until(lambda: kept(store) == list(range(100)))
    heir.stop()


def test_usage_of_an_endpoint(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    key = stand.keys.create("reader", scopes=("read",))[1]
    for query in ("customer_id=acme", "customer_id=acme", "customer_id=bolt&refresh=direct", "nonsense=1"):
        client.get(f"/endpoints/usage/run?{query}")
    client.get("/endpoints/nothing/run")
    stand.until(lambda: client.get("/endpoints/usage/usage").json()["totals"]["requests"] == 4, 20)
    reader = serve(key)
    body = reader.get("/endpoints/usage/usage?by=source").json()
    assert body["totals"]["errors"] == 1
    counted = {row["source"]: row["requests"] for row in body["usage"]}
    assert counted == {"asset": 2, "live": 1, None: 1}
    assert body["totals"]["cached_share"] == 0.25
    now = datetime.now(UTC)
    rows = read(Store(stand.settings.lake_url), now - timedelta(hours=2), now + timedelta(hours=1)).rows()
    assert len(rows) == 5, "those that ran nothing as well"
    assert not [row for row in rows if "acme" in row or "bolt" in row], "never a variable's value"
    today = datetime.now(UTC).date().isoformat()
    assert reader.get(f"/endpoints/usage/usage?from={today}").json()["usage"][0]["day"] == today
    for query, field in (
        ("by=week", "by"),
        ("from=yesterday", "from"),
        ("from=2026-01-02&to=2026-01-01", "from"),
        ("form=2026-01-01", "form"),
        ("by=day&by=hour", "by"),
    ):
        problem = reader.get(f"/endpoints/usage/usage?{query}")
        assert problem.status_code == 400, query
        assert [error["field"] for error in problem.json()["errors"]] == [field]


def test_metrics(stand, serve: Serve) -> None:
    stand.publish("usage@2", age=timedelta(minutes=30))
    client = serve()
    client.get("/endpoints/usage/run?customer_id=acme")
    client.get("/endpoints/usage/run?customer_id=acme", headers={"X-API-Key": "ep_x_y"})
    lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    ran = 'endpoints_requests_total{endpoint="usage",reason="",source="asset",status="200",version="2"}'
    assert values[ran] == "1.0"
    assert values['endpoints_request_seconds_count{endpoint="usage",source="asset"}'] == "1.0"
    assert 0.49 < float(values['endpoints_freshness_ratio{endpoint="usage",version="2"}']) < 0.6
    assert values['endpoints_asset_state{endpoint="usage",state="fresh",version="2"}'] == "1.0"
    assert values['endpoints_asset_state{endpoint="usage",state="missing",version="3"}'] == "1.0"
    assert float(values["endpoints_unauthenticated_requests_total"]) == 1
    narrow = stand.keys.create("narrow", scopes=("read",), endpoints=("usage",))[1]
    assert serve(narrow).get("/metrics").status_code == 403


def test_a_folder_that_cannot_be_made_costs_nothing(store: Flaky, tmp_path: Path) -> None:
    (tmp_path / "usage").write_text("a file where the folder should be")
    ours = journal(store, tmp_path)
    for n in range(3):
        ours.record(run(n))
    until(lambda: kept(store) == [0, 1, 2])
    store.down = True
    ours.record(run(3))
    time.sleep(0.6)
    store.down = False
    ours.stop()
    assert kept(store) == [0, 1, 2, 3], "what memory held goes when the process ends"
    assert ours.dropped == 0


FULL_DISK = """
import resource, signal, sys, time
from pathlib import Path
from endpoints.lake.store import Store
from serving.journal import Journal
from tests_run import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
class Away(Store):
    def put(self, key, body):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        super().put(key, body)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
ours = Journal(Away(sys.argv[1]), Path(sys.argv[2]), most_bytes=2**20, send_every=0.1)
for n in range(50):
    ours.record(run(n))
    if n % 10 == 9:
        ours.drain()
ours.start()
time.sleep(1)
ours.stop()
print(ours.dropped)
"""


def test_a_full_disk_loses_nothing_and_doubles_nothing(store: Flaky, tmp_path: Path) -> None:
    (tmp_path / "tests_run.py").write_text(
        "import time\nfrom endpoints.usage import RunRecord\n"
        "def run(n): return RunRecord(time.time(),'usage',1,'k1','live',None,200,0.1,n,9,False)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]),
    }
    command = [sys.executable, "-c", FULL_DISK, f"file://{tmp_path / 'lake'}", str(tmp_path / "usage")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "0\n", ended.stderr
    assert kept(store) == list(range(50))


def test_lines_of_another_edition_stop_nothing(store: Flaky, tmp_path: Path) -> None:
    folder = tmp_path / "usage"
    folder.mkdir()
    (folder / "old.jsonl").write_text(
        f'[{[0.0] * 10 + ["x"]}, [1.0], [0.1]]\n7\n{{"a": 1}}\n[[1,'.replace("'", '"')
    )
    ours = journal(store, tmp_path)
    ours.record(run(4))
    until(lambda: kept(store) == [4])
    ours.stop()
    assert not list(folder.iterdir())
