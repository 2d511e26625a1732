"""The live run that answers a request."""

from __future__ import annotations

from functools import partial

from starlette.types import Scope

from endpoints.decision import Decision
from endpoints.query.bind import count_statement, live_statement
from endpoints.warehouse.protocol import Caps, Statement
from serving.answer import Wanted
from serving.live import Question
from serving.service import Service


def question_of(service: Service, scope: Scope, wanted: Wanted, decision: Decision) -> Question:
    """The live run that answers. Its key holds the newest snapshot: publishing drops older results."""
    version, asked, bound = wanted.served.version, wanted.asked, wanted.bound
    snapshot = decision.manifest.number if decision.manifest is not None else 0
    return Question(
        version=version.key,
        key=(version.key, version.fingerprint, bound.key, wanted.limit, asked.offset, asked.count, snapshot),
        statement=partial(_statement, service, wanted),
        count=count_statement(bound) if asked.count else None,
        caps=Caps(timeout=version.limits.timeout, max_memory=version.limits.max_memory),
        limit=wanted.limit,
        offset=asked.offset,
        keep_for=version.cache,
        lapses_for=version.stale_while_revalidate,
        queue_for=version.limits.timeout,
        fresh=asked.refresh != "cache",
        pay=partial(service.limits.start_live, scope),
    )


def _statement(service: Service, wanted: Wanted) -> Statement:
    """The query in a total order: pages fit together, and live gives the asset's order. Blocks."""
    columns = service.columns(wanted.served.version)
    at_most = wanted.asked.offset + wanted.limit + 1  # one more tells whether rows follow
    return live_statement(wanted.bound, total_order=len(columns), at_most=at_most)
