"""What looks odd about new rows beside those of before: how many there are, and which columns they have.

Neither stops anything: a table may well double. The rule for counts holds against trends and single spikes,
being made of medians (median absolute deviation; Leys et al., 2013), and is silent until it has seen a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from statistics import median
from typing import Final

from endpoints.definition import Version
from endpoints.lake.manifest import Manifest, PartitionEntry
from endpoints.lake.publish import Lake
from endpoints.partitions import Window, left_refresh, window_of
from endpoints.types import Column

HISTORY: Final = 14
"""How many snapshots, or partitions, before this one are looked at."""
FEWEST: Final = 4
_SPREADS: Final = 5
_SPREAD_OF_MAD: Final = 1.4826  # makes a median absolute deviation a standard deviation, of normal values
_ALWAYS_USUAL: Final = 0.5  # within half of the median nothing is odd, however steady it was


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows now, and in the snapshots or partitions before, newest first; `open`: more are to come."""

    rows: int
    before: tuple[int, ...]
    open: bool = False

    @property
    def usual(self) -> tuple[int, int] | None:
        """The least and the most that would surprise nobody; None where too little is known."""
        if len(self.before) < FEWEST:
            return None
        middle = median(self.before)
        spread = median(abs(rows - middle) for rows in self.before)
        width = max(_SPREADS * _SPREAD_OF_MAD * spread, _ALWAYS_USUAL * middle)
        least = 1 if min(self.before) else 0  # none at all is odd where there always were some
        return max(least, round(middle - width)), round(middle + width)

    @property
    def odd(self) -> bool:
        """Whether it is worth a look."""
        if self.usual is None:
            return False
        least, most = self.usual
        return self.rows > most or (self.rows < least and not self.open)


def entries_before(manifest: Manifest, partition: str, earlier: Sequence[Manifest]) -> list[PartitionEntry]:
    """The partition's entries in `earlier` snapshots, newest first, each once, but those of the same run."""
    now = manifest.partitions[partition]
    found = {
        entry.snapshot: entry
        for entry in (one.partitions.get(partition) for one in earlier)
        if entry is not None and entry.run_id != now.run_id
    }
    return list(found.values())


def counted(
    version: Version, manifest: Manifest, partition: str, earlier: Sequence[Manifest], now: datetime
) -> Counted:
    """The rows of a new time partition beside those of the partitions before it; of anything else, beside
    those that it had itself in earlier snapshots of this definition.
    """
    rows = manifest.partitions[partition].rows
    window = _window(version, partition, now)
    if window is None:
        before = entries_before(manifest, partition, earlier)
        fitting = [entry.rows for entry in before if entry.fingerprint == version.fingerprint]
        return Counted(rows, tuple(fitting[:HISTORY]))
    keys = sorted((key for key in manifest.partitions if key < partition), reverse=True)[:HISTORY]
    partitions = version.materialize.partitions if version.materialize else None
    assert partitions is not None, "it has a window"
    is_open = left_refresh(partitions, window) > now
    return Counted(rows, tuple(manifest.partitions[key].rows for key in keys), is_open)


def column_changes(manifest: Manifest, partition: str, earlier: Sequence[Manifest]) -> tuple[str, ...]:
    """What is other about the stored columns than in the snapshot before, or in the partition before."""
    before: list[PartitionEntry | None] = [*entries_before(manifest, partition, earlier)[:1]]
    neighbours = sorted(key for key in manifest.partitions if key < partition)
    before += [manifest.partitions[key] for key in neighbours[-1:]]
    last = next((entry for entry in before if entry is not None), None)
    return () if last is None else tuple(_changes(last.columns, manifest.partitions[partition].columns))


def manifests_before(manifest: Manifest, lake: Lake) -> list[Manifest]:
    """The snapshots before this one, newest first: at most `HISTORY`, as far as they have been kept."""
    found = (
        lake.manifest(manifest.endpoint, manifest.version, number)
        for number in range(manifest.number - 1, max(manifest.number - 1 - HISTORY, 0), -1)
    )
    return [*takewhile(lambda one: isinstance(one, Manifest), found)]  # type: ignore[list-item]


def _changes(before: Sequence[Column], now: Sequence[Column]) -> list[str]:
    old, new = ({column.name: str(column.type) for column in columns} for columns in (before, now))
    gone = [f"{name} is gone" for name in old if name not in new]
    come = [f"{name} is new: {kind}" for name, kind in new.items() if name not in old]
    other = [
        f"{name} is {kind}, was {old[name]}" for name, kind in new.items() if old.get(name, kind) != kind
    ]
    return gone + come + other


def _window(version: Version, partition: str, now: datetime) -> Window | None:
    partitions = version.materialize.partitions if version.materialize else None
    return None if partitions is None else window_of(partitions, partition, now)
