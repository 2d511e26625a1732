"""What a run is asked to make, and how it is made once, whoever else is asked to make it at the same time.

A run claims its partitions in the lake. What another run has claimed it leaves to that one, waits for it, and
takes what comes of it for its own; a run that was killed loses its claim, and others take over. A partition
that was published since the run was asked for is not made again: so a run that is started again after a crash
goes on where the first one was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime

from endpoints.definition import Version
from endpoints.lake.claims import Claim, Claims
from endpoints.lake.manifest import Manifest, PartitionEntry, PartitionFailure
from endpoints.lake.publish import Lake
from endpoints.settings import Settings

POLL_SECONDS = 1.0
SAY_EVERY = 20.0


@dataclass(frozen=True, slots=True)
class Ask:
    """The partitions that a run is to make, in order.

    What was published after snapshot `base`, or by a run of `lineage` (itself, and those that it retries), or
    from rows read after `since`, has been made already. `base` None: the newest when the run begins.
    """

    keys: tuple[str, ...]
    lineage: frozenset[str]
    base: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of the work: what this run is to make now, and what has been made, or has failed, elsewhere, as
    `manifest` tells.
    """

    mine: tuple[str, ...]
    made: Mapping[str, PartitionEntry]
    failed: Mapping[str, PartitionFailure]
    manifest: Manifest | None = None


def turns(
    version: Version,
    ask: Ask,
    lake: Lake,
    settings: Settings,
    *,
    run_id: str,
    say: Callable[[str], None] = lambda text: None,
) -> Generator[Turn, None, None]:
    """The run's work, a turn at a time; `mine` of one must be made before the next is asked for.

    One turn where nobody else is about. `say` hears whom it waits for.
    """
    claims = Claims(lake.store, version.endpoint, version.number, lease=settings.run_lease)
    with claims.hold(run_id) as holding:
        work = _Work(version, ask, lake)
        while work.left:
            taken = holding.take(work.left, work.base)
            work.join(taken.others)
            turn = work.turn(taken.mine)
            yield turn
            holding.release()
            if work.left:
                _wait(claims, work, taken.others, say)


class _Work:
    """What is left to do, and what counts as done."""

    def __init__(self, version: Version, ask: Ask, lake: Lake) -> None:
        self._version, self._ask, self._lake = version, ask, lake
        self._joined: set[str] = set()
        self.left = ask.keys
        head = self._head()
        self.base = ask.base if ask.base is not None else head.number if head else 0

    def join(self, others: Collection[Claim]) -> None:
        """What these make counts, from where they began."""
        self._joined.update(claim.holder for claim in others)
        self.base = min([self.base, *(claim.base for claim in others)])

    def turn(self, claimed: Collection[str]) -> Turn:
        """What is made, what has failed, and what of `claimed` is still to be made; none of it is left."""
        manifest = self._head()
        made = {key: entry for key in self.left if (entry := self._made(manifest, key))}
        failed = {
            key: failure for key in self.left if key not in made and (failure := self._failed(manifest, key))
        }
        mine = tuple(key for key in claimed if key not in made and key not in failed)
        self.left = tuple(key for key in self.left if key not in {*made, *failed, *mine})
        return Turn(mine, made, failed, manifest)

    def waits_for(self, claims: Collection[Claim]) -> list[Claim]:
        """Those of the claims that are on something that is left."""
        return [claim for claim in claims if not claim.partitions.isdisjoint(self.left)]

    def _head(self) -> Manifest | None:
        return self._lake.head(self._version.endpoint, self._version.number)

    def _made(self, manifest: Manifest | None, key: str) -> PartitionEntry | None:
        entry = manifest.partitions.get(key) if manifest else None
        if entry is None or entry.fingerprint != self._version.fingerprint:
            return None
        since = self._ask.since
        later = entry.snapshot > self.base or (since is not None and entry.as_of >= since)
        return entry if later or entry.run_id in self._ask.lineage else None

    def _failed(self, manifest: Manifest | None, key: str) -> PartitionFailure | None:
        """A failure of a run that this one has joined: the same would only fail again."""
        failure = manifest.failures.get(key) if manifest else None
        return failure if failure is not None and failure.run_id in self._joined else None


def _wait(claims: Claims, work: _Work, others: Collection[Claim], say: Callable[[str], None]) -> None:
    """Until one of the others' claims on what is left has ended or lapsed."""
    waited_for = {claim.number for claim in work.waits_for(others)}
    said = float("-inf")
    while waited_for <= (live := {claim.number for claim in work.waits_for(claims.live())}) and waited_for:
        if time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            say(f"waiting for run {_names(others, live)}, which makes {len(work.left)} of these partitions")
        time.sleep(POLL_SECONDS)


def _names(claims: Collection[Claim], numbers: Collection[int]) -> str:
    return ", ".join(sorted({claim.holder for claim in claims if claim.number in numbers}))
