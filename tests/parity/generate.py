"""Queries at random over the tables of `data`: shapes that are served, with values that match all, some and
no rows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from endpoints.definition import Partitions
from tests.parity.data import KEYS
from tests.parity.harness import Case

SOURCES = (
    "t",
    "(SELECT * FROM t) AS t",
    "(SELECT *, toLowCardinality(g) AS lg FROM t WHERE i != 2) AS t",
    "t LEFT JOIN (SELECT k, any(plan) AS plan FROM u GROUP BY k) AS r ON t.k = r.k",
    "t INNER JOIN (SELECT DISTINCT k FROM u WHERE w > 2) AS r ON t.k = r.k",
    "t ARRAY JOIN tags AS tag",
)
# Columns with their variables' type; the second is a text of values that exist, or nearly.
ROW_VALUES: dict[str, tuple[str, tuple[object, ...]]] = {
    "t.k": ("String", ("a", "A", "", "ab", "é", "missing")),
    "g": ("String", ("p", "q", "r", "")),
    "n": ("String", ("x", "", "none")),
    "i": ("Int32", (-3, -1, 0, 2, 3, 99)),
    "x": ("Int64", (0, 1, 24, 25, 49, 60)),
    "big": ("UInt64", (0, 1, 2**53, 2**53 + 1, 2**64 - 1)),
    "m": ("Int64", (-1, 0, 7, 8)),
    "d": ("Date32", ("2026-01-31", "2026-02-02", "2026-02-04", "2030-01-01")),
    "toDate(ts)": ("Date", ("2026-01-31", "2026-02-02", "2026-02-04", "2030-01-01")),
    "price": ("Decimal(10, 2)", ("0.00", "1.20", "2.5", "4.99")),
    "flag": ("Bool", (True, False)),
    "f": ("Float64", (0, 0.5, -1.25)),
    "zero": ("Float64", (0, -0.0, 1.5)),
    "x % 7": ("Int16", (0, 3, 6, 8)),
    "lower(t.k)": ("String", ("a", "", "ab")),
    "length(tags)": ("UInt64", (0, 1, 2)),
    "toStartOfHour(ts)": ("DateTime", ("2026-02-01T00:00:00Z", "2026-02-02T13:00:00Z")),
}
_KOLKATA = "toTimeZone(ts, 'Asia/Kolkata')"
# Times with a bucket, their type, values on its edges and values within.
BUCKETS: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("ts", "DateTime64(3)", "minute", ("2026-02-02T13:07:00Z",), ("2026-02-02T13:07:00.5Z",)),
    ("ts", "DateTime64(3)", "hour", ("2026-02-01T00:00:00Z", "2026-02-03T13:00:00Z"), ("2026-02-02T13:01Z",)),
    ("toDateTime(ts)", "DateTime", "day", ("2026-02-02T00:00:00Z",), ("2026-02-02T13:00:00Z",)),
    ("ts", "DateTime64(3)", "week", ("2026-02-02T00:00:00Z",), ("2026-02-03T00:00:00Z",)),
    ("ts", "DateTime64(3)", "month", ("2026-02-01T00:00:00Z",), ("2026-02-02T00:00:00Z",)),
    (_KOLKATA, "DateTime64(3)", "hour", ("2026-02-02T03:30:00Z",), ("2026-02-02T03:00:00Z",)),
    (_KOLKATA, "DateTime64(3)", "day", ("2026-02-01T18:30:00Z",), ("2026-02-02T00:00:00Z",)),
    ("d", "Date32", "week", ("2026-02-02",), ("2026-02-03",)),
    ("d", "Date32", "month", ("2026-02-01",), ("2026-02-02",)),
)  # fmt: skip
KEYS_OF_GROUPS = (
    "g",
    "i",
    "flag",
    "n",
    "m",
    "d",
    "toDate(ts)",
    "f",
    "x % 7",
    "lower(t.k)",
    "intDiv(x, 10)",
    "upper(g)",
)
EXACT = (
    "count()", "sum(x)", "min(x)", "max(price)", "avg(x)", "uniq(t.k)", "uniqExact(g, i)", "countIf(flag)",
    "sumIf(i, x > 20)", "quantileExact(0.5)(x)", "max(n)", "min(d)", "minIf(x, flag)", "count(DISTINCT g)",
    "sum(m)", "count(m)", "avg(price)", "groupBitXor(x)", "uniqCombined(id)", "sum(price)",
)  # fmt: skip
# Merged from states to the last bit: the floats of the data are sums of a few powers of two.
MERGED = (
    "sum(f)", "avg(f)", "min(f)", "avg(x / 8)", "varPop(x)", "stddevSamp(i)", "corr(x, i)", "sumCount(f)",
    "avgWeighted(x, id)", "uniqUpTo(3)(t.k)", "uniqCombined64(t.k)", "topK(1)(1)", "argMax(id, (x, id))",
    "argMin(t.k, id)", "argMax(m, id)", "length(groupArray(x))", "arraySort(groupUniqArray(x))",
    "arraySort(groupArrayIf(i, flag))", "quantile(0.9)(x)", "quantileTiming(0.5)(id)", "median(x)",
    "quantileExactLow(0.3)(toDate(ts))", "quantilesExactWeighted(0.1, 0.9)(x, id)",
    "quantileBFloat16(0.5)(x)",
    "quantileDD(0.01, 0.5)(x)", "groupArraySorted(3)(x)", "groupBitmap(id)", "groupBitAnd(id)",
    "sumMap([g], [x])", "sumMap(map(g, x))", "minMap([i], [x])", "sumForEach([x, i])", "uniqArray(tags)",
    "sumArray([x, i])", "sumOrNull(x)", "sumOrNullIf(x, x > 45)", "avgOrNull(m)", "minOrDefault(x)",
    "maxIf(n, flag)", "sumDistinct(x)", "sum(DISTINCT i)", "avg(x) FILTER (WHERE flag)", "sumArgMax(x, i)",
    "count() FILTER (WHERE x > 40)", "sumResample(0, 50, 25)(x, x)", "any(7)", "anyLast(length(''))",
    "windowFunnel(9000)(toDateTime(ts), x > 5, x > 20, flag)", "retention(x > 5, x > 20, flag)",
    "sequenceMatch('(?1).*(?2)')(toDateTime(id), x > 30, x < 20)",
    "maxIntersections(x, x + 3)", "intervalLengthSum(x, x + 3)", "groupArrayIntersect(tags)[1]",
)  # fmt: skip
CLOCKS = (
    "ts < now()", "d <= today()", "toDate(ts) >= yesterday()", "dateDiff('hour', ts, now()) > 3",
    "ts > now64(6) - INTERVAL 20 HOUR",
)  # fmt: skip
WINDOWS = (
    "row_number() OVER (PARTITION BY g ORDER BY x, id)",
    "sum(x) OVER (ORDER BY id)",
    "count() OVER ()",
    "lagInFrame(x) OVER (PARTITION BY i ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
    "rank() OVER (ORDER BY x)",
)


@dataclass
class Draft:
    """A case in the making: its variables' types and the values to choose from."""

    chance: random.Random
    values: dict[str, tuple[object, ...]] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    limits: bool = True
    buckets: dict[str, str] = field(default_factory=dict)
    within: dict[str, tuple[str, ...]] = field(default_factory=dict)
    as_of: bool = False

    def variable(self, type_text: str, values: tuple[object, ...]) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = values
        return f"{{{name}:{type_text}}}"

    def keep_used(self, sql: str) -> None:
        """Forget the variables of texts that were not chosen."""
        names = set(re.findall(r"\{(\w+):", sql))
        self.optional &= names
        for known in (self.values, self.buckets, self.within):
            for name in known.keys() - names:
                del known[name]

    def given(self) -> Mapping[str, object]:
        chosen = {name: self.chance.choice(values) for name, values in self.values.items()}
        return {n: v for n, v in chosen.items() if n not in self.optional or self.chance.random() < 0.5}


# How `t` can be sliced: by time in some zone, by a list of values that leaves some out.
SLICINGS = (
    Partitions("ts", "day", datetime(2026, 1, 31, tzinfo=UTC), table="t"),
    Partitions("ts", "day", datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 4, tzinfo=UTC), table="t"),
    Partitions("ts", "day", datetime(2026, 1, 30, 18, 30, tzinfo=UTC), timezone="Asia/Kolkata", table="t"),
    Partitions("ts", "week", datetime(2026, 1, 25, 23, tzinfo=UTC), timezone="Europe/Berlin", table="t"),
    Partitions("ts", "month", datetime(2026, 1, 1, tzinfo=UTC), table="t"),
    Partitions(
        "ts", "hour", datetime(2026, 2, 3, 2, tzinfo=UTC), datetime(2026, 2, 3, 9, tzinfo=UTC), table="t"
    ),
    Partitions("g", "list", table="t", values=("p", "q")),
)
SLICE_VALUES: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("ts", "DateTime64(3)", ("2026-02-01T00:00:00Z", "2026-02-03T03:00:00Z", "2026-02-02T13:00:00Z")),
    ("toDate(ts)", "Date", ("2026-02-01", "2026-02-02", "2026-02-03", "2025-01-01")),
    ("toDate(ts, 'Asia/Tokyo')", "Date", ("2026-02-02", "2026-02-03")),
    ("toStartOfHour(ts)", "DateTime", ("2026-02-03T03:00:00Z", "2026-02-03T03:30:00Z")),
    ("toMonday(ts)", "Date", ("2026-01-26", "2026-02-02", "2026-02-03")),
    ("toStartOfMonth(ts)", "Date", ("2026-01-01", "2026-02-01")),
    ("toYYYYMM(ts)", "UInt32", (202601, 202602)),
    ("toYYYYMMDD(ts)", "UInt32", (20260131, 20260203)),
    ("g", "String", ("p", "q", "r", "")),
)
SLICE_KEYS = (
    *("toDate(ts)", "ts", "toStartOfHour(ts)", "toMonday(ts)", "toStartOfMonth(ts)", "g"),
    "toDate(ts, 'Asia/Kolkata')",
)
SLICE_NOWS = (datetime(2026, 2, 3, 8, 30, tzinfo=UTC), datetime(2026, 2, 5, 12, tzinfo=UTC))


def generate_sliced(seed: int) -> Case:
    """A case with partitions, of which some may be missing: values that touch all, some or none of them."""
    chance = random.Random(f"sliced {seed}")
    draft = Draft(chance)
    shapes = (_rows, _groups, _totals, _nested, _sliced)
    shape: Callable[[Draft], str] = chance.choices(shapes, (4, 4, 1, 3, 8))[0]
    sql = shape(draft)
    some_missing = chance.random() < 0.3
    return Case(
        sql,
        [draft.given() for _ in range(3)],
        frozenset(draft.optional),
        draft.buckets,
        partitions=chance.choice(SLICINGS),
        now=chance.choice(SLICE_NOWS),
        missing=frozenset(chance.choices(range(6), k=2) if some_missing else ()),
    )


def _sliced(draft: Draft) -> str:
    """Groups, or rows, with conditions on times of the sliced column."""
    chance = draft.chance
    keys = chance.sample(SLICE_KEYS, chance.randrange(1, 3))
    parts = [_predicate(draft, "t.k")] if chance.random() < 0.6 else []
    for _ in range(chance.randrange(1, 3)):
        column, type_text, values = chance.choice(SLICE_VALUES)
        operator = chance.choice(("=", ">=", "<", "<=", ">", ">=", "<"))
        text = draft.variable(type_text, values)
        if chance.random() < 0.2:
            draft.optional.add(text[1:].split(":")[0])
        parts.append(f"{column} {operator} {text}")
    named = [(key, f"key{number}") for number, key in enumerate(keys)]
    aggregates = [f"{call} AS a{n}" for n, call in enumerate(chance.sample(EXACT, chance.randrange(1, 3)))]
    items = ", ".join([*(f"{key} AS {name}" for key, name in named), *aggregates])
    order = _order(draft, [name for _, name in named] + ["a0"])
    by = ", ".join(name for _, name in named)
    return f"SELECT {items} FROM t WHERE {' AND '.join(parts)} GROUP BY {by}{order}{_limits(draft, 'key0')}"


def generate(seed: int) -> Case:
    """The case of that seed."""
    chance = random.Random(seed)
    draft = Draft(chance, as_of=chance.random() < 0.15)
    shape: Callable[[Draft], str] = chance.choices(
        (_rows, _groups, _totals, _nested, _united, _several, _beneath), (5, 8, 2, 4, 3, 4, 3)
    )[0]
    sql = shape(draft)
    draft.keep_used(sql)
    given = [draft.given() for _ in range(2)]
    unaligned = [one | {name: chance.choice(draft.within[name])} for one in given for name in draft.buckets]
    clock = "as_of" if draft.as_of else None
    return Case(sql, given, frozenset(draft.optional), draft.buckets, unaligned, clock)


def _rows(draft: Draft) -> str:
    chance = draft.chance
    items = chance.sample(
        ("id", "t.k AS k1", "g", "x", "f AS f1", "m", "d AS d1", "price", "i + 1 AS j", "upper(g) AS g"),
        chance.randrange(1, 5),
    )
    if "upper(g) AS g" in items and "g" in items:
        items.remove("g")
    if chance.random() < 0.15:  # an alias in the place of a column that conditions and windows name
        items = [item for item in items if item != "x"] + [chance.choice(("x % 5 AS x", "i % 2 AS i"))]
    source = chance.choice(SOURCES)
    if chance.random() < 0.25 and "ARRAY JOIN" not in source:  # which repeats ids: ties that no one orders
        items.append(f"{chance.choice(WINDOWS)} AS w1")
    if draft.as_of and chance.random() < 0.5:
        items.append(chance.choice(("dateDiff('minute', ts, now()) AS age", "now64(6)", "toHour(now())")))
    if chance.random() < 0.1:
        items.append(f"x * {draft.variable('Int64', (-1, 0, 3))} AS y1")
    distinct = "DISTINCT " if chance.random() < 0.2 else ""
    where = _where(draft)
    order = _order(draft, ["id", "x", "f", "m", "price", "t.k", "x % 3"]) if not distinct else ""
    return f"SELECT {distinct}{', '.join(items)} FROM {source}{where}{order}{_limits(draft, 'g')}"


def _groups(draft: Draft) -> str:
    chance = draft.chance
    keys = chance.sample(KEYS_OF_GROUPS, chance.randrange(1, 4))
    named = [(key, f"key{number}") for number, key in enumerate(keys)]
    shown = [pair for pair in named if chance.random() < 0.85]
    aggregates = chance.sample(_aggregates(draft), chance.randrange(1, 4))
    items = [f"{key} AS {name}" if chance.random() < 0.8 else f"({key}) AS {name}" for key, name in shown]
    items += [f"{call} AS a{number}" for number, call in enumerate(aggregates)]
    if chance.random() < 0.3:
        items.append("round(sum(x) / count(), 2) AS ratio")
    if chance.random() < 0.1:
        items.append("sum(count()) OVER () AS total")
    if chance.random() < 0.1:
        items.append("max(x) + 1 AS m")
    chance.shuffle(items)
    by = ", ".join(name if (key, name) in shown and chance.random() < 0.6 else key for key, name in named)
    where = _where(draft, prefer=keys)
    having = ""
    if chance.random() < 0.3:
        bound = draft.variable("UInt64", (0, 2, 10, 500)) if chance.random() < 0.6 else "3"
        having = f" HAVING count() {chance.choice(('>', '<=', '='))} {bound}"
    order = _order(draft, [name for _, name in shown] + ["a0", "count()"])
    limits = _limits(draft, shown[0][1] if shown else "")
    return (
        f"SELECT {', '.join(items)} FROM {chance.choice(SOURCES)}{where} GROUP BY {by}{having}{order}{limits}"
    )


def _aggregates(draft: Draft) -> tuple[str, ...]:
    """Those to draw from: often the plain ones alone, which merge as they are."""
    clocked = ("countIf(ts < now())", "max(toDate(ts) = today())") if draft.as_of else ()
    return (*EXACT, *MERGED, *clocked) if draft.chance.random() < 0.6 else (*EXACT, *clocked)


def _totals(draft: Draft) -> str:
    chance = draft.chance
    drawn = chance.sample(_aggregates(draft), chance.randrange(1, 5))
    items = [f"{call} AS a{number}" for number, call in enumerate(drawn)]
    return f"SELECT {', '.join(items)} FROM {chance.choice(SOURCES)}{_where(draft)}"


def _nested(draft: Draft) -> str:
    """Something made of a subquery or CTE, without limits in it: rows that tie there come as they like."""
    draft.limits = False
    shape: Callable[[Draft], str] = draft.chance.choice((_rows, _groups, _totals))
    inner = shape(draft)
    first = inner.removeprefix("SELECT ").removeprefix("DISTINCT ")
    name = re.split(r" FROM |, (?![^(]*\))", first)[0].split()[-1]
    items = f"count() AS n, uniqExact({name}) AS u, max(toString({name})) AS top"
    base = f"WITH base AS ({inner})"
    return draft.chance.choice(
        (
            f"SELECT {items} FROM ({inner})",
            f"{base} SELECT {items} FROM base",
            f"{base} SELECT {name} AS v, count() AS n FROM base GROUP BY v ORDER BY n DESC, v",
            f"{base} SELECT 1 AS part, {items} FROM base UNION ALL SELECT 2, {items} FROM base",
        )
    )


JOINS = ("INNER", "LEFT", "RIGHT", "FULL", "ANY LEFT", "SEMI LEFT", "ANTI LEFT")


def _several(draft: Draft) -> str:
    """Variables in several SELECTs: both sides of a join, tables beside, IN, scalars, UNION."""
    chance = draft.chance
    rows = f"SELECT g, i, x, t.k AS k1 FROM t{_where(draft)}"
    groups = f"SELECT g, toInt64(count()) AS c, max(x) AS best FROM t{_where(draft)} GROUP BY g"
    total = f"count() AS c, sum(x) AS s, uniq(t.k) AS u FROM t{_where(draft)}"
    pro = f"plan = {draft.variable('String', ('pro', 'free', 'none'))}"
    return chance.choice(
        (
            f"SELECT a.i AS i, count() AS many, sum(b.c) AS s FROM ({rows}) AS a {chance.choice(JOINS)} JOIN "
            f"({groups}) AS b ON a.g = b.g GROUP BY i ORDER BY many DESC, i",
            f"SELECT plan, count() AS many, max(x) AS m FROM ({rows}) AS a {chance.choice(JOINS[:4])} JOIN u "
            "ON a.k1 = u.k GROUP BY plan",
            f"SELECT u.k AS k, c FROM u CROSS JOIN (SELECT {total}) AS s WHERE {pro} ORDER BY c, k",
            f"WITH a AS ({rows}), b AS ({groups}) SELECT g, x FROM a WHERE g IN "
            "(SELECT g FROM b WHERE c > 9)",
            f"WITH a AS ({rows}), b AS ({groups}) SELECT 'a' AS n, max(x) AS v FROM a UNION ALL "
            "SELECT g, best FROM b UNION ALL SELECT g, c FROM b WHERE c > 9",
            f"SELECT 'all' AS n, {total} UNION ALL SELECT 'some', count(), sum(x), 3 FROM t{_where(draft)}",
            f"{rows} {chance.choice(('UNION ALL', 'UNION DISTINCT', 'EXCEPT'))} {rows} AND flag",
            f"SELECT g, count() AS many FROM t{_where(draft)} AND x > (SELECT avg(x) FROM t{_where(draft)}) "
            "GROUP BY g",
            f"SELECT id FROM t{_where(draft)} AND i {chance.choice(('', 'NOT '))}IN (SELECT i FROM t"
            f"{_where(draft)}) ORDER BY x",
            f"SELECT id, (SELECT max(w) FROM u WHERE {pro}) AS top FROM t{_where(draft)} LIMIT 7",
            f"SELECT id FROM t{_where(draft)} AND EXISTS (SELECT 1 FROM u WHERE {pro} AND w > 7)",
        )
    )


def _beneath(draft: Draft) -> str:
    """What only the rows themselves answer."""
    bound, where = draft.variable("Int64", (0, 3, 25, 99)), _where(draft)
    levels = draft.chance.choice(("ROLLUP", "CUBE"))
    sets = f"GROUP BY GROUPING SETS ((g), (i), ()) HAVING many > {bound}"
    return draft.chance.choice(
        (
            f"SELECT g, countIf(x > {bound}) AS n, sum(if(x < {bound}, i, 0)) AS s FROM t{where} GROUP BY g",
            f"SELECT x > {bound} AS high, count() AS many FROM t{where} GROUP BY x > {bound}",
            f"SELECT g, i, count() AS many FROM t{where} GROUP BY g, i WITH {levels}",
            f"SELECT g, i, sum(x) AS many FROM t{where} {sets}",
            f"SELECT *, x * {bound} AS y1 FROM t{where}{_order(draft, ['id', 'x', 'price'])}",
            f"WITH {bound} AS factor SELECT id, x * factor AS y1 FROM t{where}",
            f"SELECT i, count() AS many FROM t{where} GROUP BY i ORDER BY i WITH FILL FROM -5 TO 6",
            f"SELECT count() AS many, max(y1) AS m FROM (SELECT *, x + {bound} AS y1 FROM t{where})",
        )
    )


UNITED_KEYS: dict[str, tuple[str, tuple[object, ...], dict[str, tuple[str, ...]]]] = {
    "text": (
        "String",
        ("a", "p", "x", "", "only here"),
        {"t": ("k", "g", "n", "lower(k)"), "u": ("k", "plan")},
    ),
    "number": ("Int64", (-1, 0, 3, 8), {"t": ("i", "x", "m", "toInt8(i)"), "u": ("w", "toUInt32(w)")}),
    "day": ("Date", ("2026-01-31", "2026-02-02", "2030-01-01"), {"t": ("d", "toDate(ts)"), "u": ("since",)}),
}
OPERATORS = ("UNION ALL", "UNION ALL", "UNION DISTINCT", "INTERSECT", "EXCEPT", "INTERSECT DISTINCT")
UNITED_ITEMS = {  # no UInt64, which has no type in common with the signed ones
    "t": ("x", "id", "toUInt8(x)", "m", "toInt16(length(g))", "1", "x % 3"),
    "u": ("w", "toUInt8(w)", "toInt16(length(k))", "nullIf(w, 3)", "2"),
}


def _united(draft: Draft) -> str:
    """Two to four SELECTs over either table, all with conditions on the same one or two variables."""
    chance = draft.chance
    kinds = chance.sample(list(UNITED_KEYS), chance.randrange(1, 3))
    variables = {kind: draft.variable(*UNITED_KEYS[kind][:2]) for kind in kinds}
    width = chance.randrange(1, 4)
    sql = ""
    for number in range(chance.randrange(2, 5)):
        table = chance.choice("tu")
        parts = [f"{chance.choice(UNITED_KEYS[kind][2][table])} = {variables[kind]}" for kind in kinds]
        parts += ["length(k) < 2"] if chance.random() < 0.3 else []
        chance.shuffle(parts)
        items = [f"{chance.choice(UNITED_ITEMS[table])} AS c{number}{at}" for at in range(width)]
        grouped = chance.random() < 0.3
        if grouped:
            items[-1] = f"toInt32(count()) AS c{number}{width - 1}"
        names = ", ".join(item.split()[-1] for item in items[: width - grouped])
        select = f"SELECT {', '.join(items)} FROM {table} WHERE {' AND '.join(parts)}"
        select += f" GROUP BY {names or 'k'}" if grouped else ""
        if chance.random() < 0.3:
            columns = ", ".join(str(at + 1) for at in range(width))
            select += f" ORDER BY {columns} LIMIT {chance.randrange(1, 9)}"
        joined = f" {chance.choice(OPERATORS)} " if number else ""
        sql += joined + (f"({select})" if chance.random() < 0.3 else select)
    return sql


def _where(draft: Draft, prefer: list[str] | None = None) -> str:
    chance = draft.chance
    choices = [c for c in ROW_VALUES if c in (prefer or ())] if prefer and chance.random() < 0.4 else []
    parts = [
        _predicate(draft, chance.choice(choices or list(ROW_VALUES))) for _ in range(chance.randrange(1, 4))
    ]
    if chance.random() < 0.3:
        parts.append("x < 45")
    if chance.random() < 0.25:
        parts += _bucketed(draft)
    if draft.as_of:
        if chance.random() < 0.4:
            parts.append(f"ts >= now() - INTERVAL {draft.variable('UInt16', (0, 5, 20, 500))} HOUR")
        else:
            parts.append(chance.choice(CLOCKS))
    chance.shuffle(parts)
    return " WHERE " + " AND ".join(parts)


def _bucketed(draft: Draft) -> list[str]:
    """One end or both of a range whose bounds have buckets; now and then an end is optional."""
    chance = draft.chance
    column, type_text, bucket, edges, within = chance.choice(BUCKETS)
    parts = []
    for operator, flipped in chance.sample(((">=", "<="), ("<", ">")), chance.randrange(1, 3)):
        text = draft.variable(type_text, edges)
        name = text[1:].split(":")[0]
        draft.buckets[name], draft.within[name] = bucket, within
        if chance.random() < 0.2:
            draft.optional.add(name)
        parts.append(f"{column} {operator} {text}" if chance.random() < 0.7 else f"{text} {flipped} {column}")
    return parts


def _predicate(draft: Draft, column: str) -> str:
    chance = draft.chance
    type_text, values = ROW_VALUES[column]
    kind = chance.choices(
        ("=", "range", "optional", "in", "between", "or", "empty", "not", "like", "null"),
        (10, 5, 3, 3, 2, 1, 1, 1, 1, 1),
    )[0]
    if kind == "=":
        return f"{column} = {draft.variable(type_text, values)}"
    if kind == "range":
        return f"{column} {chance.choice(('<', '<=', '>', '>=', '!='))} {draft.variable(type_text, values)}"
    if kind == "optional":
        text = draft.variable(type_text, values)
        draft.optional.add(text[1:].split(":")[0])
        return f"{column} {chance.choice(('=', '>='))} {text}"
    if kind in ("in", "not") and type_text != "Float64":
        lists = tuple([chance.choice(values) for _ in range(chance.randrange(0, 3))] for _ in range(3))
        return f"{column} {'NOT ' if kind == 'not' else ''}IN {draft.variable(f'Array({type_text})', lists)}"
    if kind == "between":
        low, high = draft.variable(type_text, values), draft.variable(type_text, values)
        return f"{column} BETWEEN {low} AND {high}"
    if kind == "or":
        return f"({column} = {draft.variable(type_text, values)} OR x > 40)"
    if kind == "like":
        return f"t.k LIKE concat('%', {draft.variable('String', ('a', 'b', '', 'é'))}, '%')"
    if kind == "null":
        return f"n <=> {draft.variable('Nullable(String)', (None, 'x', ''))}"
    if kind == "empty":
        text = draft.variable("String", ("", "a", *KEYS[1:2]))
        return f"({text} = '' OR t.k = {text})"
    return f"NOT ({column} = {draft.variable(type_text, values)})"


def _order(draft: Draft, choices: list[str]) -> str:
    chance = draft.chance
    if chance.random() < 0.4:
        return ""
    picked = chance.sample(choices, min(len(choices), chance.randrange(1, 3)))
    return " ORDER BY " + ", ".join(
        f"{what}{chance.choice(('', ' DESC', ' ASC', ' DESC NULLS FIRST'))}" for what in picked
    )


def _limits(draft: Draft, by: str) -> str:
    chance = draft.chance
    if not draft.limits:
        return ""
    text = f" LIMIT {chance.randrange(1, 3)} BY {by}" if by and chance.random() < 0.15 else ""
    kind = chance.random()
    if kind < 0.2:
        text += f" LIMIT {chance.randrange(0, 6)}"
    elif kind < 0.3:
        text += f" LIMIT {chance.randrange(1, 6)} OFFSET {chance.randrange(0, 4)}"
    elif kind < 0.4:
        text += f" LIMIT {draft.variable('UInt32', (0, 1, 5))}"
    elif kind < 0.45:
        text += f" OFFSET {chance.randrange(0, 4)}"
    return text
