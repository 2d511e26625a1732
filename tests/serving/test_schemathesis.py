"""The whole OpenAPI document against the running service, by schemathesis: what it says is what there is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
EXAMPLES = 12
# Those that are not made to fail, or to be slow.
SOUND = ("usage", "since", "weekly", "careful", "typed", "moment")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation(shared_stand, client: httpx.Client, mode: GenerationMode) -> None:
    key = shared_stand.keys.create("schemathesis", endpoints=SOUND, scopes=("run", "read", "admin"))[1]
    client.headers["x-api-key"] = key
    document = client.get("/openapi.json").json()
    statuses: Counter[int] = Counter()

    def call(case: Any) -> None:
        answer = case.call_and_validate(
            base_url=str(client.base_url), headers={"X-API-Key": key}, checks=CHECKS
        )
        statuses[answer.status_code] += 1
        said = document["paths"][case.operation.path][case.operation.method]["responses"]
        media = answer.headers.get("content-type", [""])[0].partition(";")[0]
        schema = said[str(answer.status_code)].get("content", {}).get(media, {}).get("schema")
        if media.endswith("json") and schema is not None:
            # Not schemathesis' own check: it takes `prefixItems` for something else.
            whole = {**schema, "components": document["components"]}
            Draft202012Validator(whole).validate(answer.json())

    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        cases = found.ok().as_strategy(generation_mode=mode)
        checked = settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(case=cases)(call))
        seed(1)(checked)()
    assert statuses.total() > 10 * EXAMPLES
    assert (statuses[200] if mode is GenerationMode.POSITIVE else statuses[400]) > EXAMPLES, statuses
