"""What makes stored rows those of another query, and what does not."""

import pytest

SQL = "SELECT a, count() AS n FROM t WHERE b = {v:String} GROUP BY a"
KEYS = "materialize: {schedule: daily, partitions: {column: d, by: day, start: 2026-01-01}}"


@pytest.mark.parametrize(
    ("sql", "keys"),
    [
        (SQL, KEYS.replace("daily", "hourly")),
        (SQL, KEYS.replace("start", "refresh: 3, start")),
        (SQL, KEYS + ", contract: {rows: {min: 1}}, freshness: 3h, description: x, public: true"),
        (SQL, KEYS + ", variables: {v: {default: x, pattern: x, private: true}}"),
        ("-- who\n" + SQL.replace(" ", "\n") + " ;", KEYS),
    ],
)
def test_the_same_rows(project, sql: str, keys: str) -> None:
    assert project.version(sql, keys).fingerprint == project.version(SQL, KEYS).fingerprint


@pytest.mark.parametrize(
    ("sql", "keys"),
    [
        (SQL + " LIMIT 1", KEYS),
        (SQL.replace("'", '"').replace("a,", "'a' AS a,"), KEYS),
        (SQL.replace("String", "FixedString(3)"), KEYS),
        (SQL, KEYS.replace("by: day", "by: month")),
        (SQL, KEYS.replace("start: 2026-01-01", "start: 2026-01-02")),
        (SQL, KEYS.replace("start", "end: 2027-01-01, start")),
        (SQL, KEYS.replace("start", "timezone: Asia/Tokyo, start")),
        (SQL, KEYS.replace("start", "table: t, start")),
        (SQL, "materialize: {schedule: daily}"),
        (SQL, KEYS + ", variables: {v: {optional: true}}"),
        (SQL, KEYS + ", clock: as_of"),
    ],
)
def test_other_rows(project, sql: str, keys: str) -> None:
    assert project.version(sql, keys).fingerprint != project.version(SQL, KEYS).fingerprint


def test_a_space_inside_a_string_counts(project) -> None:
    one = project.version("SELECT 'a  b' AS x")
    assert one.fingerprint != project.version("SELECT 'a b' AS x").fingerprint


def test_a_bucket_counts(project) -> None:
    sql = "SELECT count() AS n FROM t WHERE d >= {v:DateTime}"
    one = project.version(sql)
    other = project.version(sql, "variables: {v: {bucket: hour}}")
    assert one.fingerprint != other.fingerprint
    assert one.lock_parts["variables"] != other.lock_parts["variables"]
