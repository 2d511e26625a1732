"""Who runs what: every authenticated run is kept in the lake, a row each, for as long as `usage_retention`.

`log` writes, reads and compacts the rows under `_usage/`; `report` counts them.
"""

from endpoints.usage.log import compact, forget, read, write
from endpoints.usage.record import Alike, RunRecord, alike, together
from endpoints.usage.report import BY, By, callers, report, totals
from endpoints.usage.span import DAYS, check_span, parse_moment

__all__ = [
    "BY",
    "DAYS",
    "Alike",
    "By",
    "RunRecord",
    "alike",
    "callers",
    "check_span",
    "compact",
    "forget",
    "parse_moment",
    "read",
    "report",
    "together",
    "totals",
    "write",
]
