"""Where an answer is to come from: the asset, an older one, or ClickHouse. One rule, for all who ask.

`endpoints.freshness` knows how an asset stands; here that meets what is asked for and what can be read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from endpoints import freshness
from endpoints.definition import Version
from endpoints.errors import NoAsset
from endpoints.freshness import Standing
from endpoints.lake.manifest import Manifest
from endpoints.lake.touched import touched
from endpoints.query.bind import Bound
from endpoints.query.plan import Plan

Source = Literal["asset", "live", "stale"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Where an answer is to come from. `reason`: why not from the fresh asset. `fallback`: an older asset
    stands in where live fails or is slow.
    """

    source: Source
    reason: str | None
    standing: Standing
    manifest: Manifest | None
    fallback: bool = False

    def live_instead(self, version: Version, reason: str) -> Decision:
        """Live, since the asset cannot answer after all. NoAsset where the version never runs live."""
        if not version.live_when:
            raise NoAsset(version.key, reason)
        return replace(self, source="live", reason=reason, fallback=False)


def decide(
    version: Version,
    plan: Plan | None,
    manifest: Manifest | None,
    bound: Bound,
    now: datetime,
    *,
    direct: bool = False,
    unreadable: bool = False,
) -> Decision:
    """Asset or live, and why. NoAsset where neither may answer.

    `plan` is None where no asset can; `direct`: none is to; `unreadable`: its files are known to be bad.
    """
    needed = touched(plan, bound, manifest, now) if plan is not None else None
    standing = freshness.standing(version, manifest, now, needed)
    reason = standing.state.reason
    found = Decision("asset", reason, standing, manifest)
    if version.materialize is None:
        return replace(found, source="live", reason="not_materialized")
    if direct:
        return found.live_instead(version, "direct")
    if plan is None:
        return found.live_instead(version, "unservable")
    if unreadable:
        return found.live_instead(version, "corrupt")
    match freshness.route(version, standing):
        case freshness.FromAsset():
            return found
        case freshness.FromAssetStale():
            return replace(found, source="stale")
        case freshness.Live(fallback=fallback):
            return replace(found, source="live", fallback=fallback)
        case freshness.Refuse():
            raise NoAsset(version.key, reason)
