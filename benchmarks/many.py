"""A project with many endpoints, of the shapes that the sample endpoints have. For measuring, not for use."""

from __future__ import annotations

from pathlib import Path

VERSIONS = 3

_YAML = """\
description: Events of one customer by day, number {n}.
owner: team-{team}@example.com
tags: [team-{team}, customer-facing]
current: 3
versions:
  1: {{deprecated: 2026-10-01, materialize: {{schedule: daily}}}}
  2:
    variables:
      customer_id: {{description: The customer's id, example: cust_42, pattern: "^cust_"}}
    freshness: 6h
    materialize: {{schedule: 6h}}
    contract:
      columns:
        day: {{type: Date}}
        events: {{type: UInt64, ge: 1}}
      unique: [day, event]
  3:
    variables:
      customer_id: {{description: The customer's id, example: cust_42, pattern: "^cust_", private: true}}
      date_from: {{default: "today - 30d"}}
      country: {{optional: true}}
    freshness: 1h
    materialize: {{schedule: hourly}}
    contract:
      columns:
        day: {{type: Date}}
        events: {{type: UInt64, ge: 1}}
      unique: [day, event]
      rows: {{min: 1}}
    limits: {{timeout: 10s, max_rows: 50000}}
"""
_SQL = (
    """\
SELECT event, count() AS events
FROM events
WHERE customer_id = {customer_id:String}
GROUP BY event
ORDER BY event
""",
    """\
SELECT toDate(timestamp) AS day, event, count() AS events, uniq(person_id) AS people
FROM events
WHERE customer_id = {customer_id:String}
GROUP BY day, event
ORDER BY day, event
""",
    """\
SELECT toDate(timestamp) AS day, event, count() AS events, uniq(person_id) AS people
FROM events
WHERE customer_id = {customer_id:String}
  AND toDate(timestamp) >= {date_from:Date}
  AND country = {country:String}
GROUP BY day, event
ORDER BY day, event
""",
)


def write_project(folder: Path, endpoints: int) -> None:
    """A project folder with so many endpoints of three versions each; its data are for the caller to make."""
    (folder / ".env").touch()
    for n in range(endpoints):
        place = folder / "endpoint_defs" / f"usage_{n:04}"
        place.mkdir(parents=True)
        (place / "endpoint.yaml").write_text(_YAML.format(n=n, team=n % 20))
        for number, sql in enumerate(_SQL, start=1):
            # No two texts are alike, as in life: nothing may be saved by knowing one already.
            (place / f"v{number}.sql").write_text(f"-- number {n}\n{sql}")
