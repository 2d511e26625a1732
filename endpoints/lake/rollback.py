"""Going back to an older snapshot, and letting time count again.

A rollback publishes the content of an older snapshot as the newest manifest, *held*: fresh whatever its age,
and schedules leave it alone, until it is released or a forced run publishes. No data is copied; `collect.py`
says why files that are named anew are safe from collection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from endpoints.definition import Version
from endpoints.errors import NoSnapshot, StoreUnavailable
from endpoints.lake.layout import data_folder, rollback_folder, version_folder
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Attempt, Lake

# Far below the age at which collection takes a mark for abandoned (`collect.ABANDONED`).
SECONDS = 600.0


def roll_back(lake: Lake, version: Version, *, to: int | None = None, run_id: str = "") -> Manifest:
    """Publish the content of snapshot `to` again, held; the new manifest.

    Default: what was published before what is there now; each rollback of a held version goes one further
    back. Raises NoSnapshot where that is not there, not whole, or of another definition; nothing has changed
    then.
    """
    attempt = _begin(lake, version, run_id)
    with _marked(lake, attempt) as check_time:
        target = _target(lake, version, to)
        _check_definition(version, target)
        _check_files(lake, target)

        def after(head: Manifest) -> Manifest:
            check_time()
            return attempt.follow(
                head,
                "rolled_back",
                server=target.server,
                partitions=target.partitions,
                failures={},
                held=True,
                restored=target.restored or target.number,
            )

        return attempt.end(after)


def release(lake: Lake, version: Version, *, run_id: str = "") -> Manifest:
    """Let time and schedules count again for a held version; NoSnapshot where it is not held."""
    head = lake.head(version.endpoint, version.number)
    if head is None or not head.held:
        raise NoSnapshot(f"{version.key} is not held: there is nothing to release.")
    attempt = _begin(lake, version, run_id)
    return attempt.end(lambda head: attempt.follow(head, "released", held=False, restored=None))


def _begin(lake: Lake, version: Version, run_id: str) -> Attempt:
    return lake.begin(
        version.endpoint, version.number, fingerprint=version.fingerprint, run_id=run_id, partitions=()
    )


@contextmanager
def _marked(lake: Lake, attempt: Attempt) -> Iterator[Callable[[], None]]:
    """Keeps collection from deleting while the block runs. Yields what raises where that took too long."""
    began, key = (
        time.monotonic(),
        f"{rollback_folder(attempt.endpoint, attempt.version)}/{attempt.attempt_id}",
    )

    def check_time() -> None:
        if time.monotonic() - began > SECONDS:
            raise StoreUnavailable(f"the rollback took more than {SECONDS:.0f} s: nothing has changed")

    lake.store.put(key, b"")
    try:
        yield check_time
    finally:
        lake.store.delete(key)


def _target(lake: Lake, version: Version, to: int | None) -> Manifest:
    endpoint, number = version.endpoint, version.number
    if to is None:
        return _before(lake, version)
    found = lake.manifest(endpoint, number, to) if to > 0 else None
    if isinstance(found, Manifest):
        return found
    kept = ", ".join(str(m.number) for m in _published(lake, version)) or "none"
    why = "was never there" if found is None else "has been collected"
    raise NoSnapshot(f"{version.key}: snapshot {to} {why}. Snapshots with data: {kept}.")


def _before(lake: Lake, version: Version) -> Manifest:
    """The newest snapshot before what is there now, with other content."""
    head = lake.head(version.endpoint, version.number)
    for found in _published(lake, version):
        if head is None or (head.restored and found.number >= head.restored):
            continue
        if found.partitions != head.partitions:
            return found
    raise NoSnapshot(
        f"{version.key} has no earlier snapshot to go back to; `endpoints history {version.key}` lists them."
    )


def _published(lake: Lake, version: Version) -> Iterator[Manifest]:
    return (m for m in lake.history(version.endpoint, version.number) if m.outcome == "published")


def _check_definition(version: Version, target: Manifest) -> None:
    """Of another definition it would not be read: the answers would not be this version's."""
    if not target.partitions:
        raise NoSnapshot(f"{version.key}: snapshot {target.number} has no data.")
    if any(entry.fingerprint != version.fingerprint for entry in target.partitions.values()):
        raise NoSnapshot(
            f"{version.key}: snapshot {target.number} was made by another definition of this version, and "
            "would not be served. Put the definition back as it was, or choose a later snapshot with --to."
        )


def _check_files(lake: Lake, target: Manifest) -> None:
    endpoint, version = target.endpoint, target.version
    there = {found.key: found.size for found in lake.store.list(data_folder(endpoint, version))}
    folder = version_folder(endpoint, version)
    lost = [file.path for file in target.files if there.get(f"{folder}/{file.path}") != file.bytes]
    if lost:
        raise NoSnapshot(
            f"{endpoint}@{version}: {len(lost)} files of snapshot {target.number} are gone or changed, the "
            f"first is {lost[0]}. They have been collected (ENDPOINTS_RETENTION, ENDPOINTS_KEEP_SNAPSHOTS)."
        )
