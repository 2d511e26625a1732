"""The numbers of all workers of one address: the one that is scraped asks the others, through a folder.

    scrape ─▶ `wanted` ◀─ each worker looks, a few times a second ─▶ a file of its numbers ─▶ sums

Counters and histograms are summed over all workers that there have been, gauges over those that live: when
one is killed, what it had counted by the last scrape stays, so that no count falls. A file that a full disk
does not take is the one of before. (prometheus_client's own way are mapped files: on a full disk writing to
one kills the process. See docs/decisions/metrics-of-several-workers.md.)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

WAIT = 3.0  # seconds for the others' numbers
LOOK_EVERY = 0.02
_WANTED = "wanted"


_Sample = tuple[str, dict[str, str], float]
_Family = tuple[str, str, str, list[_Sample]]  # its name, what it means, counter, histogram or gauge


class Siblings(Collector):
    """What `registry` counts in all workers that share `folder`. With no folder: in this process."""

    def __init__(self, registry: CollectorRegistry, folder: Path | None) -> None:
        self._registry, self._folder = registry, folder
        self._own = f"{os.getpid()}-{time.time_ns():x}.json"
        self._asked = 0
        self._writing = threading.Lock()

    def start(self) -> None:
        """Tell the others that there is one to wait for."""
        if self._folder is not None:
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._tell(self._folder)

    def stop(self) -> None:
        """Leave the last numbers behind."""
        if self._folder is not None:
            self._tell(self._folder)

    def tell(self) -> None:
        """Say what is counted here if someone has asked since the last time. Cheap where nobody has."""
        if self._folder is None:
            return
        asked = _changed(self._folder / _WANTED)
        if asked != self._asked:
            self._asked = asked
            self._tell(self._folder)

    def collect(self) -> Iterator[Metric]:
        """The sums. Blocks, mostly for a quarter of a second, at most for `WAIT`."""
        if self._folder is None:
            yield from self._registry.collect()
            return
        others = [path for path in self._folder.glob("*.json") if path.name != self._own]
        self._ask(self._folder, [path for path in others if _lives(path)])
        own = self._tell(self._folder)  # before anyone hears of it: this worker may die next
        yield from _sums([(True, own), *((_lives(path), _read(path)) for path in others)])

    def _ask(self, folder: Path, others: list[Path]) -> None:
        before = {path: _changed(path) for path in others}
        with suppress(OSError):  # then they are as they were
            (folder / _WANTED).write_bytes(b"")
            os.utime(folder / _WANTED)
            end = time.monotonic() + WAIT
            while any(_changed(path) == at for path, at in before.items()) and time.monotonic() < end:
                time.sleep(LOOK_EVERY)

    def _tell(self, folder: Path) -> list[_Family]:
        """Write what is counted here, and give it."""
        own = _families(self._registry)
        with self._writing, suppress(OSError):
            half = (folder / self._own).with_suffix(".half")
            half.write_bytes(orjson.dumps(own))
            half.replace(folder / self._own)
        return own


def _families(registry: CollectorRegistry) -> list[_Family]:
    return [
        (
            family.name,
            family.documentation,
            family.type,
            [(s.name, s.labels, s.value) for s in family.samples if not s.name.endswith("_created")],
        )
        for family in registry.collect()
    ]


def _read(path: Path) -> list[_Family]:
    try:
        told: list[_Family] = orjson.loads(path.read_bytes())
    except OSError:
        return []
    return told


def _sums(told: Iterable[tuple[bool, list[_Family]]]) -> Iterator[Metric]:
    """One family of each name; those of workers that no longer live count where they are no gauges."""
    found: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for lives, families in told:
        for name, text, kind, samples in families:
            found.setdefault(name, Metric(name, text, kind))
            values = sums.setdefault(name, {})
            for sample, labels, value in samples if lives or kind != "gauge" else ():
                key = sample, tuple(labels.items())
                values[key] = values.get(key, 0.0) + value
    for name, metric in found.items():
        for (sample, pairs), value in sums[name].items():
            metric.add_sample(sample, dict(pairs), value)
        yield metric


def _changed(path: Path) -> int:
    """When the file was last written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _lives(path: Path) -> bool:
    """Whether the worker whose file it is still runs."""
    try:
        os.kill(int(path.name.partition("-")[0]), 0)
    except ProcessLookupError:
        return False
    return True
