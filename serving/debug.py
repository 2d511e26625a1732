"""What `debug=true` tells an operator of one answer: how it was planned, what was read, what ran.

Never a variable's value: they are bound, and the statements are shown with their placeholders.
"""

from __future__ import annotations

from endpoints.lake.manifest import Manifest
from endpoints.query.plan import Plan
from serving.loaded import Served


def of_asset(served: Served, manifest: Manifest, partitions: tuple[str, ...] | None) -> dict[str, object]:
    """The plan, and the files of the partitions (None: of all) that the answer was read from."""
    read = {
        key: entry
        for key, entry in sorted(manifest.partitions.items())
        if partitions is None or key in partitions
    }
    return {
        "plan": _plan(served.plan),
        "snapshot": manifest.number,
        "partitions": list(read),
        "files": [
            {"path": file.path, "rows": file.rows, "bytes": file.bytes}
            for entry in read.values()
            for file in entry.files
        ],
    }


def of_live(served: Served, query_id: str) -> dict[str, object]:
    """The query as its author wrote it, and the id that ClickHouse's log has it under."""
    return {"plan": _plan(served.plan), "sql": served.version.sql, "query_id": query_id}


def _plan(plan: Plan | None) -> dict[str, object] | None:
    if plan is None:
        return None
    return {
        "materialize_sql": plan.materialize_sql,
        "seek": [dimension.variable for dimension in plan.seek],
        "conditions": [condition.sql for condition in plan.conditions],
        "finish": plan.finish.sql if plan.finish is not None else None,
    }
