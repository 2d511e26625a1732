"""Write, audit, publish: how an attempt's rows become a snapshot.

    lake/endpoints/<name>/v<N>/data/<attempt>/…            Parquet, named by the attempt that wrote it
                              /manifests/<20 digits>.json  one per attempt, created only if absent
                              /manifests/segments/<hash>   parts of large manifests
                              /rollbacks/<attempt>         rollbacks that are under way
    lake/_heads/<name>/v<N>.json                           a hint of the newest number

Numbers run 1, 2, 3, … without gaps and are never reused, so "does number n+1 exist" is the truth about the
newest one, and creating it is the only step that publishes. Whoever is killed before it has changed nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import timedelta

import orjson

from endpoints.errors import Corrupt, StoreUnavailable
from endpoints.lake.attempt import Attempt, Published, Superseded
from endpoints.lake.layout import hint_key, manifest_key, segment_key
from endpoints.lake.manifest import UNPARTITIONED, Manifest, Tombstone, decode
from endpoints.lake.store import Store
from endpoints.settings import Settings

__all__ = ["Attempt", "Lake", "Published", "Superseded"]

log = logging.getLogger(__name__)


class Lake:
    """The published assets of every version, in one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def open(cls, settings: Settings, *, probe: bool = True, patience: timedelta | None = None) -> Lake:
        """The lake of the settings. `probe` makes sure that publishing is safe there: StoreUnsafe.

        `patience` is as of Store.
        """
        store = Store.open(settings.lake_url, settings, patience=patience)
        if probe:
            store.probe()
        return cls(store)

    def versions(self) -> list[tuple[str, int]]:
        """Every (endpoint, version) that has a folder in the lake."""
        return [
            (endpoint, int(folder[1:]))
            for endpoint in self.store.folders("endpoints")
            for folder in self.store.folders(f"endpoints/{endpoint}")
            if folder[:1] == "v" and folder[1:].isdecimal()
        ]

    def head(self, endpoint: str, version: int, *, after: int | None = None) -> Manifest | None:
        """The newest manifest, found by walking: never older than any that was there when the call began.

        `after` is a number known to exist, where the walk starts; None starts at the hint. Corrupt where the
        newest manifest cannot be read.
        """
        start = self.hint(endpoint, version) if after is None else after
        number = self.newest(endpoint, version, start)
        found = self.manifest(endpoint, version, number) if number else None
        if found is None and start:
            return self.head(endpoint, version, after=0)  # a hint that named a number which never was
        if isinstance(found, Tombstone):
            return self.head(endpoint, version, after=found.floor)
        return found

    def newest(self, endpoint: str, version: int, after: int) -> int:
        """The highest number there is, if `after` exists or is 0. Strides grow, then halve.

        A tombstone on the way says how far to jump.
        """
        low, stride, missing = after, 1, None
        while missing is None or missing - low > 1:
            probe = low + stride if missing is None else (low + missing) // 2
            body = self.store.get(manifest_key(endpoint, version, probe))
            if body is None:
                missing = probe
            else:
                low, stride = max(probe, _floor(body)), stride * 2
        return low

    def manifest(self, endpoint: str, version: int, number: int) -> Manifest | Tombstone | None:
        """One manifest by number, a tombstone where it has been collected, None where it never was."""
        key = manifest_key(endpoint, version, number)
        body = self.store.get(key)
        return None if body is None else self.decode(endpoint, version, key, body)

    def decode(self, endpoint: str, version: int, key: str, body: bytes) -> Manifest | Tombstone:
        """A manifest's body with its segments loaded. Corrupt."""

        def segment(name: str) -> bytes:
            raw = self.store.get(segment_key(endpoint, version, name))
            if raw is None:
                raise Corrupt(key, f"its segment {name} is missing")
            return raw

        return decode(body, key, segment)

    def history(self, endpoint: str, version: int) -> Iterator[Manifest]:
        """Manifests, newest first, as far as they have been kept."""
        newest = self.head(endpoint, version)
        number = newest.number if newest else 0
        while number:
            found = self.manifest(endpoint, version, number)
            if not isinstance(found, Manifest):
                return
            yield found
            number -= 1

    def hint(self, endpoint: str, version: int) -> int:
        """The number that the hint names; 0 where there is none. It may be behind: walk on from it."""
        body = self.store.get(hint_key(endpoint, version))
        try:
            return max(int(orjson.loads(body)["number"]), 0) if body else 0
        except (ValueError, TypeError, KeyError):
            log.warning("the hint of %s@%s is not one: walking from the start", endpoint, version)
            return 0

    def begin(
        self,
        endpoint: str,
        version: int,
        *,
        fingerprint: str,
        run_id: str,
        partitions: Collection[str] = (UNPARTITIONED,),
    ) -> Attempt:
        """Starts an attempt at `partitions`. It must end with `publish` or `fail`."""
        return Attempt(
            self,
            endpoint,
            version,
            fingerprint=fingerprint,
            run_id=run_id,
            partitions=tuple(partitions),
            base=self.head(endpoint, version),
        )

    def announce(self, manifest: Manifest) -> None:
        """Tells followers. A hint that is lost costs time, not truth, so trouble is only logged."""
        try:
            self.store.put(
                hint_key(manifest.endpoint, manifest.version), orjson.dumps({"number": manifest.number})
            )
        except StoreUnavailable as error:
            log.warning(
                "no hint of %s@%s #%d: %s", manifest.endpoint, manifest.version, manifest.number, error
            )


def _floor(body: bytes) -> int:
    """How far a manifest's body says to jump: the floor of a tombstone, else 0."""
    try:
        raw = orjson.loads(body)
        return int(raw["floor"]) if raw.get("tombstone") else 0
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0
