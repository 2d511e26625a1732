"""What a released version may change in place, and what it may not."""

import pytest

from endpoints.definition.lock import LOCK_NAME, lock, lock_problems, read_lock
from endpoints.errors import DefinitionError

VARIABLES = "variables: {v: {default: a, pattern: '^a', description: x, enum: [a, b]}}"
PARTITIONS = "materialize: {schedule: daily, partitions: {column: d, by: day, start: 2026-01-01}}"
CONTRACT = "contract: {columns: {a: {type: UInt8, ge: 1}}, rows: {min: 1}}"
KEYS = f"{VARIABLES}, {PARTITIONS}, {CONTRACT}, freshness: 1h"
SQL = "SELECT a, d FROM t\nWHERE b = {v:String} AND c = {w:String}"


def yaml(keys: str = KEYS, current: int = 1) -> str:
    return f"description: x\ncurrent: {current}\nversions:\n  1: {{{keys}}}\n"


@pytest.fixture
def released(project):
    """A project whose only version is locked."""
    project.write("usage", yaml(), v1=SQL)
    assert lock(project.load(), project.folder) == ("usage@1",)
    return project


def changes(project) -> list[tuple[str, int, str]]:
    return [(p.file, p.line, p.message) for p in lock_problems(project.load(), project.folder)]


def test_nothing_is_locked_at_first(project) -> None:
    project.write("usage", yaml(), v1=SQL)
    assert lock_problems(project.load(), project.folder) == ()
    assert read_lock(project.folder).versions == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("description: x", "description: y"),
        ("freshness: 1h", "freshness: 2h, cache: 5s, live_when: [missing]"),
        ("schedule: daily", "schedule: hourly"),
        ("start: 2026-01-01", "start: 2026-01-01, refresh: 3"),
        ("freshness: 1h", "limits: {max_rows: 5}, public: true, deprecated: 2026-01-01"),
    ],
)
def test_what_may_change_in_place(released, old: str, new: str) -> None:
    released.write("usage", yaml(KEYS.replace(old, new)), v1=SQL)
    assert changes(released) == []


@pytest.mark.parametrize("sql", [SQL + ";\n", SQL.replace(" FROM", "\n  FROM -- from\n"), "/* 1 */ " + SQL])
def test_layout_and_comments_may_change(released, sql: str) -> None:
    released.write("usage", yaml(), v1=sql)
    assert changes(released) == []


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("default: a", "default: b", "variables"),
        ("default: a,", "", "variables"),
        ("pattern: '^a'", "pattern: '^a|^x'", "variables"),
        ("{v: {", "{w: {optional: true}, v: {", "variables"),
        ("start: 2026-01-01", "start: 2026-01-02", "partition"),
        ("ge: 1", "ge: 2", "contract"),
        ("min: 1", "min: 2", "contract"),
        (CONTRACT, "public: true", "contract"),
        ("freshness: 1h", "clock: as_of", "clock"),
    ],
)
def test_what_may_not(released, old: str, new: str, part: str) -> None:
    keys = KEYS.replace(old, new).replace("enum: [a, b]", "enum: [a, b, ab]")
    if "default: b" in keys:
        keys = keys.replace("pattern: '^a'", "pattern: '^a|^b'")
    released.write("usage", yaml(keys), v1=SQL)
    [(file, _, message)] = changes(released)
    assert message.startswith("usage@1 is released, but its ")
    assert part in message
    assert file.startswith("endpoint_defs/usage/")


def test_changed_sql_names_the_next_version(released) -> None:
    released.write("usage", yaml(), v1=SQL.replace("{w:String}", "{w:UInt8}"))
    [problem] = lock_problems(released.load(), released.folder)
    assert (problem.file, problem.code) == ("endpoint_defs/usage/endpoint.yaml", "locked_version_changed")
    assert problem.line == 4
    assert "SQL and variables" in problem.message
    assert "new version, 2" in problem.fix
    released.write("usage", yaml(), v1=SQL + " LIMIT 5")
    [problem] = lock_problems(released.load(), released.folder)
    assert (problem.file, problem.line) == ("endpoint_defs/usage/v1.sql", 1)
    with pytest.raises(DefinitionError) as caught:
        lock(released.load(), released.folder)
    assert caught.value.problems == (problem,)


def test_new_versions_join_the_lock_and_numbers_are_never_used_again(released) -> None:
    text = (released.folder / LOCK_NAME).read_text()
    released.write("usage", f"{yaml()}  2: {{}}\n", v2="SELECT 2 AS a")
    assert changes(released) == []
    assert lock(released.load(), released.folder) == ("usage@2",)
    assert lock(released.load(), released.folder) == ()
    longer = (released.folder / LOCK_NAME).read_text()
    assert longer.startswith(text)
    # Version 2 is removed, then its number is used for something else.
    (released.folder / "usage" / "v2.sql").unlink()
    released.write("usage", yaml(), v1=SQL)
    assert changes(released) == []
    assert lock(released.load(), released.folder) == ()
    assert (released.folder / LOCK_NAME).read_text() == longer
    released.write("usage", f"{yaml()}  2: {{}}\n", v2="SELECT 3 AS a")
    [problem] = lock_problems(released.load(), released.folder)
    assert "usage@2 is released" in problem.message
    assert "new version, 3" in problem.fix


def test_a_lock_that_cannot_be_read(released) -> None:
    path = released.folder / LOCK_NAME
    good = path.read_text()
    path.write_text(f"{good}<<<<<<< HEAD\nusage@1 sql=00\n")
    problems = lock_problems(released.load(), released.folder)
    assert [(p.file, p.line, p.code) for p in problems] == [
        ("endpoint_defs/endpoints.lock", 3, "bad_lock"),
        ("endpoint_defs/endpoints.lock", 4, "bad_lock"),
    ]
    with pytest.raises(DefinitionError):
        lock(released.load(), released.folder)
    path.write_bytes(b"\xff")
    assert [p.code for p in lock_problems(released.load(), released.folder)] == ["bad_lock"]


def test_the_lock_is_stable_text(project) -> None:
    for name in ("b", "a", "C"):
        project.write(name, "current: 10\nversions: {2: , 10: }\n", v2="SELECT 2 AS x", v10="SELECT 10 AS x")
    lock(project.load(), project.folder)
    lines = (project.folder / LOCK_NAME).read_text().splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["C@2", "C@10", "a@2", "a@10", "b@2", "b@10"]
