"""The state of a version: decided here, once, for both planes and the commands. Pure: no I/O, no clock.

standing(version, manifest, now, partitions)  →  Fresh | Stale | Failed | Breached | Missing
route(version, standing)                      →  FromAsset | FromAssetStale | Live | Refuse
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, TypeAlias

from endpoints.definition import Version
from endpoints.lake.manifest import UNPARTITIONED, Manifest, PartitionEntry, PartitionFailure
from endpoints.partitions import Window, left_refresh, window_of, windows


@dataclass(frozen=True, slots=True)
class Fresh:
    """The asset keeps its promise; `held` means because an operator rolled it back."""

    held: bool = False
    word: ClassVar[str] = "fresh"

    @property
    def reason(self) -> str | None:
        return "rolled_back" if self.held else None


@dataclass(frozen=True, slots=True)
class Stale:
    """The asset is `age` old, more than its promise."""

    age: timedelta
    word: ClassVar[str] = "stale"
    reason: ClassVar[str] = "stale"


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no asset; `changed` means only one of another definition."""

    changed: bool = False
    word: ClassVar[str] = "missing"

    @property
    def reason(self) -> str:
        return "changed" if self.changed else "missing"


@dataclass(frozen=True, slots=True)
class Breached:
    """The last try broke the contract. `error` is for operators."""

    error: str
    word: ClassVar[str] = "breached"
    reason: ClassVar[str] = "breached"


@dataclass(frozen=True, slots=True)
class Failed:
    """The last try failed; `unservable`: as every one will on this server. `error` is for operators."""

    error: str
    unservable: bool = False
    word: ClassVar[str] = "failed"

    @property
    def reason(self) -> str:
        return "unservable" if self.unservable else "failed"


State: TypeAlias = Fresh | Stale | Missing | Breached | Failed
_BEST_FIRST: tuple[type[State], ...] = (Fresh, Stale, Missing, Breached, Failed)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a version stands for the partitions asked about.

    `last_refresh` is the oldest `as_of` of the open ones (of all, where none is open). `usable`: an asset of
    this definition answers for all of them, however old. `rows` are theirs; `snapshot` the newest manifest
    that published any of them, `run_id` the run that did. `source_max` is the newest source row, as it was
    when the newest of them was made. `rebuild` says what runs are to make again, where somebody looked.
    """

    state: State
    last_refresh: datetime | None = None
    usable: bool = False
    rows: int | None = None
    snapshot: int | None = None
    run_id: str | None = None
    rebuild: str | None = None
    source_max: datetime | None = None


@dataclass(frozen=True, slots=True)
class FromAsset:
    """Answer from the asset."""


@dataclass(frozen=True, slots=True)
class FromAssetStale:
    """Answer from the asset, and mark it stale."""


@dataclass(frozen=True, slots=True)
class Live:
    """Run live; `fallback` means that an asset can answer, marked stale, if that fails."""

    fallback: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is nothing to answer with: 503 with the state's reason."""


Route: TypeAlias = FromAsset | FromAssetStale | Live | Refuse


def route(version: Version, standing: Standing) -> Route:
    """Design §5's table. A version without an asset always runs live."""
    if version.materialize is None:
        return Live(fallback=False)
    if isinstance(standing.state, Fresh):
        return FromAsset()
    if standing.state.word in version.live_when:
        return Live(fallback=standing.usable)
    return FromAssetStale() if standing.usable else Refuse()


def may_stand_in_at_once(version: Version, standing: Standing, now: datetime) -> bool:
    """Whether an asset that keeps its promise no longer may answer while a live run makes something newer.

    As RFC 5861 has it for caches: for `stale_while_revalidate` past its freshness.
    """
    window, refreshed = version.stale_while_revalidate, standing.last_refresh
    if not window or not standing.usable or refreshed is None:
        return False
    return now - refreshed <= version.freshness + window


def standing(
    version: Version, manifest: Manifest | None, now: datetime, partitions: Collection[str] | None = None
) -> Standing:
    """The state of `version` for `partitions` (default: all there are), by its newest manifest and the time.

    A partition that does not exist (before the first, or yet to begin) is not counted: it has no rows, live
    either.
    """
    slices = _slices(version, now, partitions)
    if manifest is None or not any(_fits(version, e) for e in manifest.partitions.values()):
        return _without_asset(version, manifest, slices)
    verdicts = [_verdict(version, manifest, piece, now) for piece in slices]
    entries = [
        (piece, manifest.partitions[piece.key]) for piece in slices if piece.key in manifest.partitions
    ]
    used = [(piece, entry) for piece, entry in entries if _fits(version, entry)]
    newest = max((entry for _, entry in used), key=lambda entry: entry.snapshot, default=None)
    aging = [entry.as_of for piece, entry in used if not _settled(piece, entry)]
    return Standing(
        state=_worst(verdicts),
        last_refresh=min(aging or [entry.as_of for _, entry in used], default=None),
        usable=len(used) + sum(_begins(version, manifest, piece, now) for piece in slices) == len(slices),
        rows=sum(entry.rows for _, entry in used) if used else None,
        snapshot=newest.snapshot if newest else None,
        run_id=newest.run_id if newest else None,
        source_max=max((entry for _, entry in used), key=lambda e: e.as_of).source_max if used else None,
    )


def due(version: Version, manifest: Manifest | None, now: datetime) -> tuple[str, ...]:
    """The partitions that a scheduled run should make, oldest first; none of a version that rests."""
    return () if resting(version, manifest, now) else outstanding(version, manifest, now)


def resting(version: Version, manifest: Manifest | None, now: datetime) -> str | None:
    """Why schedules leave the version alone, in words that follow its name; None where they do not."""
    if version.materialize is not None and version.materialize.paused:
        return "is paused by its definition"
    if version.sunset is not None and version.sunset <= now.date():
        return "is past its sunset"
    if manifest is not None and manifest.held:
        return f"is held: `endpoints release {version.key}` ends that"
    return None


def outstanding(version: Version, manifest: Manifest | None, now: datetime) -> tuple[str, ...]:
    """The partitions that are not final, oldest first, whoever is to make them.

    Those that are open, absent, failed, or of another definition, and those closed since they were last made:
    a closed partition is final only when it was made after its window left `refresh`.
    """
    return tuple(piece.key for piece in _slices(version, now, None) if _is_due(version, manifest, piece))


@dataclass(frozen=True, slots=True)
class _Slice:
    """A partition as time sees it. `closed_at`: when its window left `refresh`; None while it is open."""

    key: str
    start: datetime | None = None
    closed_at: datetime | None = None


def _slices(version: Version, now: datetime, touched: Collection[str] | None) -> list[_Slice]:
    """The partitions asked about, of those that there are."""
    partitions = version.materialize.partitions if version.materialize else None
    if partitions is None:
        return [_Slice(UNPARTITIONED)]
    if partitions.start is None:
        return [_Slice(key) for key in partitions.values if touched is None or key in touched]

    def piece(of: Window) -> _Slice:
        closes = left_refresh(partitions, of)
        return _Slice(of.key, of.start, closes if closes <= now else None)

    if touched is None:
        return [piece(w) for w in windows(partitions, now)]
    found = (window_of(partitions, key, now) for key in touched)
    return [piece(w) for w in found if w is not None]


def _verdict(version: Version, manifest: Manifest, piece: _Slice, now: datetime) -> State:
    entry = manifest.partitions.get(piece.key)
    if manifest.held and entry is not None and _fits(version, entry):
        return Fresh(held=True)  # whatever its age; what it has not got is not fresh: no rows may be left out
    failure = manifest.failures.get(piece.key)
    if failure is not None and failure.fingerprint == version.fingerprint:
        return _after(failure)
    if entry is None:
        return Fresh() if _begins(version, manifest, piece, now) else Missing()
    if not _fits(version, entry):
        return Missing(changed=True)
    age = now - entry.as_of
    return Fresh() if _settled(piece, entry) or age <= version.freshness else Stale(age)


def _without_asset(version: Version, manifest: Manifest | None, slices: list[_Slice]) -> Standing:
    """Failures count even before the first success."""
    failures = manifest.failures if manifest else {}
    failed = [
        _after(f)
        for f in (failures.get(piece.key) for piece in slices)
        if f is not None and f.fingerprint == version.fingerprint
    ]
    return Standing(_worst([Missing(changed=bool(manifest and manifest.partitions)), *failed]))


def _after(failure: PartitionFailure) -> Failed | Breached:
    if failure.outcome == "breached":
        return Breached(failure.error)
    return Failed(failure.error, failure.unservable)


def _fits(version: Version, entry: PartitionEntry) -> bool:
    return entry.fingerprint == version.fingerprint


def _settled(piece: _Slice, entry: PartitionEntry) -> bool:
    """Closed, and made since: its age no longer counts."""
    return piece.closed_at is not None and entry.as_of >= piece.closed_at


def _begins(version: Version, manifest: Manifest, piece: _Slice, now: datetime) -> bool:
    """Whether it is so young that its absence keeps the promise: nothing in it is older than that."""
    return (
        piece.key not in manifest.partitions
        and piece.start is not None
        and now - piece.start <= version.freshness
    )


def _is_due(version: Version, manifest: Manifest | None, piece: _Slice) -> bool:
    entry = manifest.partitions.get(piece.key) if manifest else None
    failed = manifest is not None and piece.key in manifest.failures
    return failed or entry is None or not _fits(version, entry) or not _settled(piece, entry)


def _worst(verdicts: list[State]) -> State:
    """Failed > Breached > Missing > Stale > Fresh; of two alike, the one that says more."""
    return max(verdicts, key=_weight, default=Fresh())


def _weight(state: State) -> tuple[int, timedelta, bool]:
    return (
        _BEST_FIRST.index(type(state)),
        state.age if isinstance(state, Stale) else timedelta(0),
        bool(getattr(state, "changed", False) or getattr(state, "held", False)),
    )
