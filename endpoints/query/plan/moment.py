"""A plan at one moment: what `clock: as_of` makes of each text that runs, from materializing to finishing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from endpoints.query.clock import at_moment
from endpoints.query.plan.model import Finish, Plan


def plan_at(plan: Plan, clock: str | None, moment: datetime) -> Plan:
    """The plan, its clock functions bound to the moment if the version's `clock` says so (`as_of`)."""
    if clock is None:
        return plan
    return replace(
        plan,
        materialize_sql=at_moment(plan.materialize_sql, moment),
        conditions=tuple(replace(c, sql=at_moment(c.sql, moment)) for c in plan.conditions),
        finish=None if plan.finish is None else _finish_at(plan.finish, moment),
        branches=tuple(plan_at(branch, clock, moment) for branch in plan.branches),
        parts=tuple(plan_at(part, clock, moment) for part in plan.parts),
    )


def _finish_at(finish: Finish, moment: datetime) -> Finish:
    return replace(finish, sql=at_moment(finish.sql, moment), inner_sql=at_moment(finish.inner_sql, moment))
