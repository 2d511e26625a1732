"""`python -m endpoints.definition > endpoint_defs/endpoint.schema.json`: the JSON Schema of endpoint.yaml.

`python -m endpoints.definition sources` writes that of sources.yaml.
"""

import json
import sys

from endpoints.definition import json_schema, sources_schema

schema = sources_schema() if sys.argv[1:] == ["sources"] else json_schema()
print(json.dumps(schema, indent=2, ensure_ascii=False))
