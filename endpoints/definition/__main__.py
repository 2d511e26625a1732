"""`python -m endpoints.definition > endpoint_defs/endpoint.schema.json`: the JSON Schema of endpoint.yaml."""

import json

from endpoints.definition import json_schema

print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
