"""What the fast lane is told of an answer, so that it gives the next one like it."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request

from endpoints.decision import Decision
from serving.answer import Answer, Wanted
from serving.facts import facts_again
from serving.front import CORS
from serving.lane import Known
from serving.live import Key, LiveRows
from serving.service import Service


def learn(
    service: Service,
    request: Request,
    wanted: Wanted,
    decision: Decision,
    known: Answer,
    live: tuple[Key, LiveRows] | None = None,
) -> None:
    """Let the fast lane answer the next request that is just like this one."""
    asked = wanted.asked
    if asked.refresh != "cache" or asked.client_query_id is not None or asked.cursor is not None:
        return
    variables = wanted.served.version.variables.values()
    service.lane.learn(
        request.scope,
        Known(
            wanted,
            decision.manifest,
            partial(facts_again, service, decision, live[1] if live else None),
            live,
            steady=not any(
                v.default is not None and v.default.anchor and v.name not in asked.variables
                for v in variables
            ),
            cors=request.scope[CORS],
            timezone=service.pulse.timezone,
            loaded=service.loaded,
            personal=known.personal,
        ),
    )
