"""The checks of a version as Dagster shows them: their specs, and what a run tells of each.

What decides about rows happens before they are published, in `materialize.py`; here it is put into words. The
rest warns: row count, columns or sources look odd beside what was there before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from endpoints.alerts.conditions import SOURCE_PREFIX
from endpoints.definition import Version
from endpoints.errors import CheckBreach, ContractBreach, Failure
from endpoints.freshness import Failed, Fresh, State, standing
from endpoints.lake.manifest import CheckResult, Manifest
from endpoints.lake.publish import Lake
from endpoints.rows import Rows
from endpoints.settings import Settings
from endpoints.units import show_duration
from orchestration.catalog import Listed
from orchestration.making import PREVIEW_ROWS, Materialized
from orchestration.markdown import markdown, markdown_rows
from orchestration.own_checks import PREFIX as OWN_PREFIX
from orchestration.parity import Parity, ParityBreach
from orchestration.unusual import column_changes, counted, manifests_before

CONTRACT_CHECK: Final = "contract"
PARITY_CHECK: Final = "parity"
FRESHNESS_CHECK: Final = "freshness"
ROWS_CHECK: Final = "row_count"
SCHEMA_CHECK: Final = "schema"
SOURCE_CHECK: Final = "source"
_SHOWN: Final = 50  # partitions, in one check's metadata


def check_specs(listed: Listed, key: dg.AssetKey, settings: Settings) -> Iterator[dg.AssetCheckSpec]:
    """The checks that every run of a version answers."""
    version = listed.version
    if version.contract is not None:
        yield dg.AssetCheckSpec(CONTRACT_CHECK, asset=key, description="The version's `contract:`, in full.")
    if settings.parity_samples > 0:
        yield dg.AssetCheckSpec(
            PARITY_CHECK, asset=key, description="Answers from new rows are those of the live query."
        )
    yield dg.AssetCheckSpec(
        FRESHNESS_CHECK,
        asset=key,
        description=f"Every open partition is at most {show_duration(version.freshness)} old.",
    )
    yield dg.AssetCheckSpec(
        ROWS_CHECK, asset=key, description="As many rows as could be expected from those of before."
    )
    yield dg.AssetCheckSpec(SCHEMA_CHECK, asset=key, description="The columns of the snapshot before.")
    for check in version.checks:
        yield dg.AssetCheckSpec(check.name, asset=key, description=check.description or check.sql.strip())
    if _has_timestamps(listed):
        yield dg.AssetCheckSpec(
            SOURCE_CHECK, asset=key, description="The tables that it reads are fed: see sources.yaml."
        )


def passed_checks(
    listed: Listed, published: Sequence[Materialized], lake: Lake
) -> Iterator[dg.AssetCheckResult]:
    """What to say of a run that has published; of each partition in one run."""
    last, now = published[-1].manifest, datetime.now(UTC)
    if listed.version.contract is not None:
        yield _kept_contract(listed.version, published)
    for parity in [done.parity for done in published if done.parity][-1:]:
        yield parity_result(parity)
    state = standing(listed.version, last, now).state
    passed, severity, metadata = freshness_verdict(listed.version, state)
    yield dg.AssetCheckResult(passed=passed, check_name=FRESHNESS_CHECK, severity=severity, metadata=metadata)
    earlier = manifests_before(last, lake)
    keys = [done.partition for done in published if done.partition in last.partitions]
    yield _row_counts(listed.version, last, keys, earlier, now)
    yield _schema(last, keys, earlier)
    yield from own_results(listed.version, published)
    if _has_timestamps(listed):
        yield _sources(last, keys)


def freshness_verdict(version: Version, state: State) -> tuple[bool, dg.AssetCheckSeverity, dict[str, Any]]:
    """Whether the check `freshness` passes in this state, how bad it is if not, and what to show."""
    bad = isinstance(state, Failed) or state.word in ("breached", "missing")
    severity = dg.AssetCheckSeverity.ERROR if bad else dg.AssetCheckSeverity.WARN
    metadata = {"state": state.word, "promise": show_duration(version.freshness)}
    return isinstance(state, Fresh), severity, metadata


def contract_breach(version: Version, breach: ContractBreach) -> dg.AssetCheckResult:
    """The failed contract: each column, and each failure with examples."""
    failures = [
        (f.column or "", f.check, str(f.count), ", ".join(map(str, f.examples))) for f in breach.failures
    ]
    return dg.AssetCheckResult(
        passed=False,
        check_name=CONTRACT_CHECK,
        description=str(breach),
        metadata={
            "failures": dg.MetadataValue.md(markdown(("column", "check", "count", "examples"), failures)),
            "columns": dg.MetadataValue.md(_by_column(version, breach.failures)),
        },
    )


def parity_result(parity: Parity) -> dg.AssetCheckResult:
    """Passed, or inconclusive: then a warning that fails nothing."""
    metadata: dict[str, Any] = {
        "outcome": parity.outcome,
        "answers that are the same": parity.same,
        "answers whose source has changed": parity.moved,
        "answers not compared": dg.MetadataValue.json(parity.not_compared),
        "columns not compared": dg.MetadataValue.json(list(parity.excluded)),
    }
    return dg.AssetCheckResult(
        passed=True,
        check_name=PARITY_CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if parity.same else "Inconclusive: no answer could be compared.",
        metadata=metadata,
    )


def parity_breach(breach: ParityBreach) -> dg.AssetCheckResult:
    """The answers that differ, and the values for which they do."""
    return dg.AssetCheckResult(
        passed=False,
        check_name=PARITY_CHECK,
        description=str(breach),
        metadata={
            "outcome": "different",
            "variables": dg.MetadataValue.json(dict(breach.values)),
            "asset": dg.MetadataValue.md(_answer(breach.asset)),
            "live": dg.MetadataValue.md(_answer(breach.live)),
        },
    )


def own_results(version: Version, published: Sequence[Materialized]) -> Iterator[dg.AssetCheckResult]:
    """What each of the version's own checks said, of any partition."""
    for check in version.checks:
        name = f"{OWN_PREFIX}{check.name}"
        told = {d.partition: c for d in published for c in d.entry.checks if c.name == name}
        bad = {partition: result.detail for partition, result in told.items() if not result.passed}
        yield dg.AssetCheckResult(
            passed=not bad,
            check_name=check.name,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(bad.values()) or None,
            metadata={"query": dg.MetadataValue.md(f"```sql\n{check.sql.strip()}\n```")},
        )


def own_breach(breach: CheckBreach) -> Iterator[dg.AssetCheckResult]:
    """The checks that stopped publishing, with the rows they found."""
    for found in breach.found:
        yield dg.AssetCheckResult(passed=False, check_name=found.check, description=str(found))


def _kept_contract(version: Version, published: Sequence[Materialized]) -> dg.AssetCheckResult:
    checks = {check.name: check.detail for check in published[-1].entry.checks if _is_contracts(check)}
    return dg.AssetCheckResult(
        passed=True,
        check_name=CONTRACT_CHECK,
        metadata={
            "columns": dg.MetadataValue.md(_by_column(version, ())),
            "checks": dg.MetadataValue.json(checks),
        },
    )


def _is_contracts(check: CheckResult) -> bool:
    return not check.name.startswith((SOURCE_PREFIX, OWN_PREFIX))


def _by_column(version: Version, failures: Sequence[Failure]) -> str:
    """A row for each column that the contract names, and one for the whole."""
    # pandera takes most of a second to import: not for loading a code location.
    from endpoints.contract import check_names

    assert version.contract is not None
    names = check_names(version.contract)
    unread = any(f.check in ("column", "type") for f in failures)  # then no row was looked at
    rows = []
    for column in (*version.contract.columns, ""):
        own = {name for name in names if name.rpartition(".")[0] == column}
        failed = {f.check: f.count for f in failures if (f.column or "") == column}
        if own or failed:
            shown = ", ".join(f"{check}: {count}" for check, count in failed.items())
            result = f"broken ({shown})" if failed else "not read" if unread else "kept"
            checks = ", ".join(sorted(name.rpartition(".")[2] for name in own))
            rows.append((column or "(the whole)", checks, result))
    return markdown(("column", "checks", "result"), rows)


def _row_counts(
    version: Version, manifest: Manifest, keys: Sequence[str], earlier: Sequence[Manifest], now: datetime
) -> dg.AssetCheckResult:
    counts = {key: counted(version, manifest, key, earlier, now) for key in keys}
    odd = {key: count for key, count in counts.items() if count.odd}
    shown = odd or dict(list(counts.items())[-1:])
    rows = [
        (key, f"{count.rows:,}", " to ".join(f"{edge:,}" for edge in count.usual or ()) or "not known yet")
        for key, count in list(shown.items())[:_SHOWN]
    ]
    return dg.AssetCheckResult(
        passed=not odd,
        check_name=ROWS_CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"An unusual number of rows in {len(odd)} of {len(counts)}." if odd else None,
        metadata={
            "rows": sum(count.rows for count in counts.values()),
            "counts": dg.MetadataValue.md(markdown(("partition", "rows", "usual"), rows)),
        },
    )


def _schema(manifest: Manifest, keys: Sequence[str], earlier: Sequence[Manifest]) -> dg.AssetCheckResult:
    changes = list(dict.fromkeys(c for key in keys for c in column_changes(manifest, key, earlier)))
    return dg.AssetCheckResult(
        passed=not changes,
        check_name=SCHEMA_CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(changes) or None,
        metadata={"changes": dg.MetadataValue.json(changes)},
    )


def _sources(manifest: Manifest, keys: Sequence[str]) -> dg.AssetCheckResult:
    newest = max((manifest.partitions[key] for key in keys), key=lambda entry: entry.as_of)
    asked = [check for check in newest.checks if check.name.startswith(SOURCE_PREFIX)]
    rows = [(c.name.removeprefix(SOURCE_PREFIX), "alive" if c.passed else "dead", c.detail) for c in asked]
    dead = [f"{table}: {detail}" for table, state, detail in rows if state == "dead"]
    return dg.AssetCheckResult(
        passed=not dead,
        check_name=SOURCE_CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(dead) or None,
        metadata={"sources": dg.MetadataValue.md(markdown(("table", "state", "newest row"), rows))},
    )


def _has_timestamps(listed: Listed) -> bool:
    return any(source.timestamp is not None for source in listed.sources)


def _answer(rows: Rows) -> str:
    """The first rows of an answer as a Markdown table."""
    return markdown_rows(rows.columns, rows.table.slice(0, PREVIEW_ROWS).columns, rows.timezone)
