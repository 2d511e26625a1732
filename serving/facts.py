"""What an answer says of itself: from the asset, from ClickHouse, and once more when some time has passed."""

from __future__ import annotations

from endpoints.decision import Decision, Source, decide
from endpoints.errors import EndpointsError
from endpoints.lake.manifest import Manifest
from serving.answer import MAX_AGE, Facts, Wanted
from serving.live import LiveRows
from serving.service import Service


def decided(service: Service, wanted: Wanted, manifest: Manifest | None) -> Decision:
    """Asset or live, and why. NoAsset where neither may answer."""
    return decide(
        wanted.served.version,
        wanted.served.plan,
        manifest,
        wanted.bound,
        wanted.now,
        direct=wanted.asked.refresh == "direct",
        unreadable=manifest is not None and service.assets.is_corrupt(manifest),
    )


def asset_facts(wanted: Wanted, decision: Decision, live_error: str | None = None) -> Facts:
    """What an answer from the asset says of itself."""
    manifest = decision.manifest
    assert manifest is not None
    source: Source = "asset" if decision.source == "asset" else "stale"
    return Facts(
        source,
        decision.reason,
        decision.standing.last_refresh,
        execution_id=decision.standing.run_id or manifest.run_id,
        tag=f"snapshot {decision.standing.snapshot}",
        max_age=_promise_left(wanted, decision) if source == "asset" else 0,
        live_error=live_error,
        snapshot=manifest.number,
        source_max=decision.standing.source_max,
    )


def live_facts(
    wanted: Wanted, decision: Decision, live: LiveRows, *, cached: bool, live_error: str | None = None
) -> Facts:
    """What a live answer says of itself."""
    at = wanted.moment.tick
    return Facts(
        "live",
        decision.reason,
        live.started,
        execution_id=live.query_id,
        tag=live.digest,
        max_age=live.left(at),
        is_cached=cached,
        age=live.age(at),
        live_error=live_error,
    )


def facts_again(service: Service, before: Decision, live: LiveRows | None, wanted: Wanted) -> Facts | None:
    """What the answer of `before` says at the moment of `wanted`; None where another would be given now."""
    sunset = wanted.served.version.sunset
    if sunset is not None and sunset <= wanted.now.date():
        return None
    try:
        decision = decided(service, wanted, before.manifest)
    except EndpointsError:
        return None
    if decision.source != before.source:
        return None
    if live is None:
        return asset_facts(wanted, decision)
    return live_facts(wanted, decision, live, cached=True)


def _promise_left(wanted: Wanted, decision: Decision) -> float:
    """Seconds for which the asset stays fresh. Closed partitions and held snapshots do at any age."""
    refreshed = decision.standing.last_refresh
    if refreshed is None:
        return MAX_AGE
    left = (refreshed + wanted.served.version.freshness - wanted.now).total_seconds()
    return left if left > 0 else MAX_AGE
