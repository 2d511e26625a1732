"""Why an attempt failed, in words fit for a chat: no rows, no SQL, nothing that the engine says.

The manifest keeps the whole error too, for Dagster and admins; alerts go further than those.
"""

from __future__ import annotations

from typing import Final

from endpoints.errors import (
    AssetTooLarge,
    BadQuery,
    CheckBreach,
    ContractBreach,
    OverLimit,
    QueryTimeout,
    StoreUnavailable,
    WarehouseUnavailable,
)
from endpoints.lake.manifest import Cause
from orchestration.parity import ParityBreach

_SENTENCES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (AssetTooLarge, "It would have more rows than `max_asset_rows`."),
    (WarehouseUnavailable, "ClickHouse did not answer."),
    (QueryTimeout, "The query ran longer than it may."),
    (OverLimit, "The query needed more than it may."),
    (BadQuery, "ClickHouse refused the query."),
    (StoreUnavailable, "The lake did not answer."),
)
_MOST_NAMED: Final = 5


def cause_of(error: BaseException) -> tuple[Cause, str]:
    """What kind of failure an error is, and one sentence."""
    if isinstance(error, ContractBreach):
        return "contract", _contract(error)
    if isinstance(error, ParityBreach):
        return "parity", "An answer from the new rows was not the live query's."
    if isinstance(error, CheckBreach):
        return "check", error.summary
    if not isinstance(error, Exception):
        return "run", "The run was interrupted."
    told = (sentence for kind, sentence in _SENTENCES if isinstance(error, kind))
    return "run", next(told, f"The run failed ({type(error).__name__}).")


def _contract(breach: ContractBreach) -> str:
    broken = [f"{f.column} [{f.check}]" if f.column else f"[{f.check}]" for f in breach.failures]
    more = f" and {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
    return f"The contract was broken: {', '.join(broken[:_MOST_NAMED])}{more}."
