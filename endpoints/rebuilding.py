"""What a changed definition leaves behind in the lake, and what the next runs will do about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from endpoints.definition import Version
from endpoints.lake.manifest import UNPARTITIONED, Manifest
from endpoints.partitions import keys


def rebuilding(version: Version, manifest: Manifest | None, now: datetime) -> str | None:
    """A sentence for operators: which partitions are of another definition, and which exist no longer.

    None where all that is published is of this definition.
    """
    if version.materialize is None or manifest is None:
        return None
    existing = set(keys(version.materialize.partitions, now) or [UNPARTITIONED])
    changed = [key for key, e in manifest.partitions.items() if e.fingerprint != version.fingerprint]
    again = sorted(key for key in changed if key in existing)
    gone = sorted(key for key in manifest.partitions if key not in existing)
    said = []
    if again:
        said.append(f"{_named(again)} of another definition will be made again")
    if gone:
        said.append(f"{_named(gone)} that no longer exist will be dropped with the next run")
    return f"{'; '.join(said)}." if said else None


def _named(found: Sequence[str]) -> str:
    if list(found) == [UNPARTITIONED]:
        return "the asset"
    if len(found) == 1:
        return f"the partition {found[0]}"
    return f"{len(found):,} partitions ({found[0]} … {found[-1]})"
