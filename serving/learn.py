"""What is remembered of an answer, so that the next one like it takes less."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request

from endpoints.decision import Decision
from serving.answer import Answer, Wanted
from serving.facts import facts_again
from serving.forms import FORM, Form
from serving.front import CORS
from serving.lane import Known
from serving.live import Key, LiveRows
from serving.request import read_query
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


def learn_form(service: Service, request: Request, wanted: Wanted, decision: Decision) -> None:
    """Let the next request that differs from this one in its values alone be read at once."""
    digest, plan, asked = request.scope.get(FORM), wanted.served.plan, wanted.asked
    if digest is None or plan is None or decision.manifest is None:
        return
    if plan.finish is not None or plan.slicing is not None or not plan.seek:
        return  # never read at once
    if asked.refresh != "cache" or asked.client_query_id is not None or asked.cursor is not None:
        return
    if asked.debug or asked.count or service.shared_results is not None:
        return
    if not {"x-request-id", "if-none-match"}.isdisjoint(request.headers):
        return
    principal, version = wanted.principal, wanted.served.version
    if not service.keys.holds(principal):
        return  # a token's bearer, who is authenticated each time
    if not service.forms.wants(digest):
        return
    pinned = read_query(request.scope["query_string"]).version
    service.forms.learn(
        digest,
        Form(
            wanted,
            pinned,
            decision.manifest,
            plan,
            partial(facts_again, service, decision, None),
            cors=request.scope[CORS],
            timezone=service.pulse.timezone,
            loaded=service.loaded,
            dues=service.limits.dues(principal, version),
        ),
    )
