"""One try at making partitions: its files under its own id, and the manifest that it ends as."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from endpoints.errors import StoreUnavailable
from endpoints.lake.layout import manifest_key, segment_key, version_folder
from endpoints.lake.manifest import (
    ERROR_CHARACTERS,
    UNPARTITIONED,
    Cause,
    CheckResult,
    FailedOutcome,
    FileEntry,
    Manifest,
    Outcome,
    PartitionEntry,
    PartitionFailure,
    Server,
    encode,
    segment_names,
)
from endpoints.lake.store import Store
from endpoints.lake.write import PartitionWriter
from endpoints.types import Column

if TYPE_CHECKING:
    from endpoints.lake.publish import Lake

# More than any crowd of publishers needs; a store that never lets one win must not be asked for ever.
TRIES = 1000


@dataclass(frozen=True, slots=True)
class Published:
    """The attempt is the newest snapshot. `passed_over`: partitions where newer data had come already."""

    manifest: Manifest
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Superseded:
    """Newer data was there for everything that the attempt brought; nothing of it is used."""

    manifest: Manifest


class Attempt:
    """One try at making partitions. Its files lie under its own id; its end is a manifest."""

    def __init__(
        self,
        lake: Lake,
        endpoint: str,
        version: int,
        *,
        fingerprint: str,
        run_id: str,
        partitions: Sequence[str],
        base: Manifest | None,
    ) -> None:
        self.attempt_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}"
        self.endpoint, self.version = endpoint, version
        self.fingerprint, self.run_id, self.partitions = fingerprint, run_id, tuple(partitions)
        self._lake = lake
        self._held_at_start = base.held if base else False
        self._at_start = {p: e.attempt_id for p, e in base.partitions.items()} if base else {}

    @property
    def store(self) -> Store:
        """Where its files go."""
        return self._lake.store

    def writer(
        self, partition: str, columns: Sequence[Column], *, sort: Sequence[str] = ()
    ) -> PartitionWriter:
        """Writes one partition's rows; `sort` names the columns they are sorted by, for readers."""
        folder = version_folder(self.endpoint, self.version)
        return PartitionWriter(
            self._lake.store, folder, f"data/{self.attempt_id}", partition, columns, sort=sort
        )

    def entry(
        self,
        files: Sequence[FileEntry],
        columns: Sequence[Column],
        *,
        as_of: datetime,
        source_max: datetime | None = None,
        checks: Sequence[CheckResult] = (),
    ) -> PartitionEntry:
        """What `publish` takes for a partition, made from its files."""
        return PartitionEntry(
            files=tuple(files),
            columns=tuple(columns),
            as_of=as_of,
            fingerprint=self.fingerprint,
            run_id=self.run_id,
            attempt_id=self.attempt_id,
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            source_max=source_max,
            checks=tuple(checks),
        )

    def draft(self, entry: PartitionEntry, server: Server, partition: str = UNPARTITIONED) -> Manifest:
        """What a manifest with this entry would be, for readers that try it before anything is published."""
        return replace(
            self._nothing(), attempt_id=self.attempt_id, server=server, partitions={partition: entry}
        )

    def publish(
        self,
        entries: Mapping[str, PartitionEntry],
        server: Server,
        *,
        existing: Collection[str] | None = None,
    ) -> Published | Superseded:
        """Makes `entries` the newest data of their partitions, but where newer data has come in the meantime.

        May be called again after StoreUnavailable, and several times with parts of a backfill. Partitions
        that are not `existing` any more (None: all are) are dropped, as are those of this definition whose
        columns are others than those of the new ones: no answer can be made of both.
        """

        def after(head: Manifest) -> Manifest:
            mine = {p: e for p, e in entries.items() if self._replaces(head, p, e)}
            if not mine:
                return self.follow(head, "superseded")
            stamped = {
                p: replace(e, snapshot=head.number + 1, attempt_id=self.attempt_id) for p, e in mine.items()
            }
            return self.follow(
                head,
                "published",
                partitions={**self._kept(head, stamped, existing), **stamped},
                failures={
                    p: f
                    for p, f in head.failures.items()
                    if p not in mine and (existing is None or p in existing)
                },
                server=server,
                held=False,
                restored=None,
            )

        manifest = self.end(after)
        if manifest.outcome == "superseded":
            return Superseded(manifest)
        passed_over = (p for p in entries if manifest.partitions[p].attempt_id != self.attempt_id)
        return Published(manifest, tuple(passed_over))

    def fail(
        self,
        outcome: FailedOutcome,
        error: str,
        partitions: Collection[str] | None = None,
        *,
        unservable: bool = False,
        cause: Cause = "run",
        summary: str = "",
    ) -> Manifest:
        """Ends the attempt without data: everything stays, `partitions` (default: all it tried) are marked.

        A partition that another attempt has filled in the meantime is not marked: its newest try succeeded.
        The rest is as in PartitionFailure.
        """
        failure = PartitionFailure(
            outcome=outcome,
            attempt_id=self.attempt_id,
            run_id=self.run_id,
            fingerprint=self.fingerprint,
            at=datetime.now(UTC),
            error=error[:ERROR_CHARACTERS],
            unservable=unservable,
            cause=cause,
            summary=summary[:ERROR_CHARACTERS],
        )
        tried = self.partitions if partitions is None else tuple(partitions)

        def after(head: Manifest) -> Manifest:
            marks = {p: failure for p in tried if self._unchanged(head, p)}
            return self.follow(head, outcome, failures={**head.failures, **marks})

        return self.end(after)

    def end(self, after: Callable[[Manifest], Manifest]) -> Manifest:
        """Creates the manifest that comes `after` the newest, anew whenever another attempt was faster."""
        for _ in range(TRIES):
            head = self._lake.head(self.endpoint, self.version) or self._nothing()
            manifest = after(head)
            if self._create(manifest, head):
                return manifest
        raise StoreUnavailable(f"{self.endpoint}@{self.version}: no number could be had in {TRIES} tries")

    def _unchanged(self, head: Manifest, partition: str) -> bool:
        """Whether no other attempt has published the partition since this one began."""
        now = head.partitions.get(partition)
        return now is None or now.attempt_id in (self._at_start.get(partition), self.attempt_id)

    def _replaces(self, head: Manifest, partition: str, entry: PartitionEntry) -> bool:
        """Whether `entry` may take the partition's place: nothing has changed, or it is the newer data."""
        if head.held and not self._held_at_start:
            return False  # rolled back while this attempt ran: the operator's choice stands
        return self._unchanged(head, partition) or entry.as_of > head.partitions[partition].as_of

    def _kept(
        self, head: Manifest, new: Mapping[str, PartitionEntry], existing: Collection[str] | None
    ) -> dict[str, PartitionEntry]:
        """The entries that stay beside the new ones."""
        columns = next(iter(new.values())).columns
        return {
            p: e
            for p, e in head.partitions.items()
            if (existing is None or p in existing)
            and (e.fingerprint != self.fingerprint or e.columns == columns)
        }

    def _nothing(self) -> Manifest:
        """What comes before the first manifest."""
        return Manifest(
            0, self.endpoint, self.version, "", "", datetime.now(UTC), "published", self.fingerprint
        )

    def follow(self, head: Manifest, outcome: Outcome, **changes: Any) -> Manifest:
        """The manifest that ends this attempt: all of `head` carried forward, but for `changes`."""
        return replace(
            head,
            number=head.number + 1,
            attempt_id=self.attempt_id,
            run_id=self.run_id,
            created_at=datetime.now(UTC),
            outcome=outcome,
            fingerprint=self.fingerprint,
            **changes,
        )

    def _create(self, manifest: Manifest, head: Manifest) -> bool:
        """Takes the manifest's number; False where another attempt has it."""
        store, key = self._lake.store, manifest_key(self.endpoint, self.version, manifest.number)
        encoded = encode(manifest)
        kept = self._segments(head.number) if encoded.segments else frozenset()
        for name, raw in encoded.segments.items():
            if name not in kept:
                # Written even where one of that name lies about: collection may be about to delete that one.
                store.put(segment_key(self.endpoint, self.version, name), raw)
        if not store.put_new(key, encoded.body) and not self._is_ours(key):
            return False
        self._lake.announce(manifest)
        return True

    def _is_ours(self, key: str) -> bool:
        """Whether the object in the way is our own: the client retries a create whose answer was lost,
        and then conflicts with itself."""
        body = self._lake.store.get(key)
        return body is not None and orjson.loads(body).get("attempt_id") == self.attempt_id

    def _segments(self, number: int) -> frozenset[str]:
        body = self._lake.store.get(manifest_key(self.endpoint, self.version, number))
        return frozenset(segment_names(body)) if body else frozenset()
