"""The table of shapes: each query with what becomes of it, `served` or the code of its refusal.

`docs/plan.md` shows the same table to people. Most rows answer an experiment in which the obvious rewrite of the query
was wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEYS: Sequence[Mapping[str, object]] = tuple({"k": value} for value in ("a", "A", "", "ab", "é", "missing"))
NUMBERS: Sequence[Mapping[str, object]] = tuple({"i": value} for value in (-3, 0, 3, 99))
DAYS: Sequence[Mapping[str, object]] = tuple(
    {"d": value} for value in ("2026-01-31", "2026-02-02", "2027-01-01")
)


@dataclass(frozen=True)
class Shape:
    """A query over the tables of `data`; `expected` is "served" or a refusal's code."""

    name: str
    sql: str
    given: Sequence[Mapping[str, object]] = KEYS
    expected: str = "served"
    optional: frozenset[str] = frozenset()


NO_VARIABLES = [{}]
SHAPES = [
    Shape("no variables", "SELECT g, count() AS c FROM t GROUP BY g ORDER BY c DESC", NO_VARIABLES),
    Shape("no variables, union", "SELECT g FROM t UNION ALL SELECT plan FROM u", NO_VARIABLES),
    Shape("no variables, global aggregate", "SELECT count(), uniq(k), min(x) FROM t", NO_VARIABLES),
    Shape("no variables, limit with ties", "SELECT g, x FROM t ORDER BY x LIMIT 3 WITH TIES", NO_VARIABLES),
    Shape("no variables, CTE", "WITH c AS (SELECT k, count() n FROM t GROUP BY k) SELECT * FROM c", NO_VARIABLES),
    Shape("plain", "SELECT id, x, f FROM t WHERE k = {k:String}"),
    Shape("plain, value first", "SELECT id FROM t WHERE {k:String} = k;"),
    Shape("plain, every column", "SELECT * FROM t WHERE k = {k:String}"),
    Shape("plain, star and column", "SELECT *, x + 1 AS y FROM t WHERE k = {k:String} ORDER BY y DESC"),
    Shape("plain, comment at the end", "SELECT id -- the row\nFROM t -- all\nWHERE k = {k:String} -- one\n"),
    Shape("plain, other conjuncts", "SELECT id FROM t WHERE x > 10 AND (k = {k:String}) AND g != 'p'"),
    Shape("plain, brackets around ANDs", "SELECT id FROM t WHERE (x > 10 AND k = {k:String})"),
    Shape("prewhere", "SELECT id FROM (SELECT * FROM t) WHERE k = {k:String} AND i = {i:Int32}", [{"k": "a", "i": 1}]),
    Shape("two dimensions", "SELECT id FROM t WHERE k = {k:String} AND g = {g:String}", [{"k": "a", "g": g} for g in "pqz"]),
    Shape("one variable twice", "SELECT id FROM t WHERE k = {k:String} AND lower(k) = {k:String}"),
    Shape("two variables, one expression", "SELECT id FROM t WHERE k = {k:String} AND k = {j:String}", [{"k": "a", "j": "a"}, {"k": "a", "j": "b"}]),
    Shape("equality on an expression", "SELECT id FROM t WHERE x % 10 = {r:Int16} ORDER BY x DESC", [{"r": 3}, {"r": 11}]),
    Shape("equality on NULLs", "SELECT id FROM t WHERE n = {n:String}", [{"n": "x"}, {"n": ""}, {"n": "none"}]),
    Shape("equality with NULL", "SELECT id FROM t WHERE n = {n:Nullable(String)}", [{"n": "x"}, {"n": None}]),
    Shape("equality, 64 bits", "SELECT id FROM t WHERE big = {b:UInt64}", [{"b": 2**53}, {"b": 2**53 + 1}, {"b": 2**64 - 1}]),
    Shape("equality, Decimal", "SELECT id FROM t WHERE price = {p:Decimal(10, 2)}", [{"p": "1.20"}, {"p": "3.33"}]),
    Shape("equality, Bool", "SELECT id FROM t WHERE flag = {b:Bool}", [{"b": True}, {"b": False}]),
    Shape("equality, moments", "SELECT id FROM t WHERE toStartOfHour(ts) = {h:DateTime}", [{"h": "2026-02-01T03:00:00Z"}]),
    Shape("equality, days", "SELECT id FROM t WHERE toDate(ts) = {d:Date}", DAYS),
    Shape("equality, LowCardinality", "SELECT id FROM (SELECT id, toLowCardinality(k) AS l FROM t) WHERE l = {k:String}"),
    Shape("equality, UUID", "SELECT id FROM t WHERE reinterpretAsUUID(id) = {u:UUID}", [{"u": "00000000-0000-0000-0500-000000000000"}]),
    Shape("equality, Enum", "SELECT id FROM t WHERE CAST(g AS Enum8('p'=1,'q'=2,'r'=3)) = {e:Enum8('p'=1,'q'=2,'r'=3)}", [{"e": "q"}]),
    Shape("group by", "SELECT g, count() AS c, sum(x), avg(x), max(f) FROM t WHERE k = {k:String} GROUP BY g ORDER BY c DESC"),
    Shape("group by, any aggregate", "SELECT g, uniq(x), quantileExact(0.9)(x), groupUniqArrayArray(tags) != [] FROM t WHERE k = {k:String} GROUP BY g"),
    Shape("group by position", "SELECT g, d, count() FROM t WHERE k = {k:String} GROUP BY 1, 2 ORDER BY 3 DESC"),
    Shape("group by alias", "SELECT toDate(ts) AS day, count() FROM t WHERE k = {k:String} GROUP BY day ORDER BY day"),
    Shape("group by ALL", "SELECT g, d, count() FROM t WHERE k = {k:String} GROUP BY ALL ORDER BY ALL"),
    Shape("group by, no key selected", "SELECT count() FROM t WHERE k = {k:String} GROUP BY g"),
    Shape("group by, having", "SELECT g, count() c FROM t WHERE k = {k:String} GROUP BY g HAVING c > 3 ORDER BY g"),
    Shape("group by, limit", "SELECT i, count() c FROM t WHERE k = {k:String} GROUP BY i ORDER BY c DESC LIMIT 2"),
    Shape("group by, limit and offset", "SELECT i, sum(x) c FROM t WHERE k = {k:String} GROUP BY i ORDER BY c LIMIT 2 OFFSET 1"),
    Shape("limit, comma", "SELECT id FROM t WHERE k = {k:String} ORDER BY x DESC LIMIT 1, 3"),
    Shape("offset only", "SELECT id FROM t WHERE k = {k:String} ORDER BY x DESC OFFSET 4"),
    Shape("limit by", "SELECT g, id FROM t WHERE k = {k:String} ORDER BY x DESC LIMIT 1 BY g"),
    Shape("limit by and limit", "SELECT g, id FROM t WHERE k = {k:String} ORDER BY x LIMIT 2 BY g LIMIT 3"),
    Shape("limit from the caller", "SELECT id FROM t WHERE k = {k:String} ORDER BY x LIMIT {n:UInt32}", [{"k": "a", "n": 3}, {"k": "a", "n": 0}]),
    Shape("distinct", "SELECT DISTINCT g, flag FROM t WHERE k = {k:String} ORDER BY g"),
    Shape("distinct on", "SELECT DISTINCT ON (g) g, id FROM t WHERE k = {k:String} ORDER BY g, x DESC"),
    Shape("order, NULLS FIRST", "SELECT m, id FROM t WHERE k = {k:String} ORDER BY m DESC NULLS FIRST, f"),
    Shape("order by what is not selected", "SELECT id FROM t WHERE k = {k:String} ORDER BY f DESC, x % 3"),
    Shape("window", "SELECT id, row_number() OVER (PARTITION BY g ORDER BY x, id) AS r FROM t WHERE k = {k:String}"),
    Shape("window without a partition", "SELECT id, sum(x) OVER (ORDER BY x, id) AS s FROM t WHERE k = {k:String}"),
    Shape("window, empty", "SELECT id, count() OVER () AS s FROM t WHERE k = {k:String}"),
    Shape("window by name", "SELECT id, sum(x) OVER w AS s FROM t WHERE k = {k:String} WINDOW w AS (PARTITION BY g ORDER BY id)"),
    Shape("window over groups", "SELECT g, count() c, sum(count()) OVER (ORDER BY g) FROM t WHERE k = {k:String} GROUP BY g"),
    Shape("qualify", "SELECT id FROM t WHERE k = {k:String} QUALIFY row_number() OVER (PARTITION BY g ORDER BY x, id) = 1"),
    Shape("array join", "SELECT id, tag FROM t ARRAY JOIN tags AS tag WHERE k = {k:String}"),
    Shape("array join, equality", "SELECT id FROM t ARRAY JOIN tags AS tag WHERE tag = {k:String}", [{"k": "x"}, {"k": "none"}]),
    Shape("arrayJoin in the list", "SELECT id, arrayJoin(tags) AS tag FROM t WHERE k = {k:String}"),
    Shape("inner join, left side", "SELECT id, plan FROM t JOIN u ON t.k = u.k WHERE t.g = {g:String}", [{"g": "p"}]),
    Shape("left join, right side in WHERE", "SELECT id, r.plan FROM t LEFT JOIN u AS r ON t.k = r.k WHERE r.k = {k:String}"),
    Shape("left join of a subquery", "SELECT id, c FROM t LEFT JOIN (SELECT k, count() c FROM u GROUP BY k) r USING k WHERE k = {k:String}"),
    Shape("subquery in FROM", "SELECT g, c FROM (SELECT k, g, count() c FROM t GROUP BY k, g) WHERE k = {k:String}"),
    Shape("CTE, outer WHERE", "WITH c AS (SELECT k, g, max(x) mx FROM t GROUP BY k, g) SELECT g, mx FROM c WHERE k = {k:String}"),
    Shape("IN subquery beside", "SELECT id FROM t WHERE k = {k:String} AND k IN (SELECT k FROM u WHERE w > 3)"),
    Shape("scalar subquery beside", "SELECT id, (SELECT max(w) FROM u) AS top FROM t WHERE k = {k:String}"),
    Shape("relative sample words", "SELECT id AS sample FROM t WHERE k = {k:String}"),
    Shape("WITH expression", "WITH lower(k) AS low SELECT id, low FROM t WHERE low = {k:String}"),
    Shape("alias shadows its column", "SELECT upper(k) AS k, count() FROM t WHERE k = {k:String} GROUP BY k"),
    Shape("alias shadows a date", "SELECT toStartOfMonth(d) AS d, count() FROM t WHERE d = {d:Date} GROUP BY d", [{"d": "2026-02-01"}, {"d": "2026-02-02"}]),
    Shape("qualified column under an alias", "SELECT upper(k) AS k, count() FROM t WHERE t.k = {k:String} GROUP BY k"),
    Shape("range on a group key", "SELECT toDate(ts) AS day, count() FROM t WHERE toDate(ts) >= {d:Date} GROUP BY day ORDER BY day", DAYS),
    Shape("range on an aliased key", "SELECT toDate(ts) AS day, count() FROM t WHERE day < {d:Date} GROUP BY day ORDER BY day DESC", DAYS),
    Shape("range of two variables", "SELECT toDate(ts) AS day, uniq(k) FROM t WHERE day >= {d:Date} AND day < {e:Date} GROUP BY day", [{"d": "2026-02-01", "e": "2026-02-03"}, {"d": "2026-02-03", "e": "2026-02-01"}]),
    Shape("range, plain", "SELECT id, x FROM t WHERE x >= {x:Int64} ORDER BY f LIMIT 5", [{"x": 0}, {"x": 25}, {"x": 50}]),
    Shape("range and equality", "SELECT id FROM t WHERE k = {k:String} AND x < {x:Int64}", [{"k": "a", "x": 20}, {"k": "", "x": 50}]),
    Shape("range, NULLs", "SELECT id FROM t WHERE m < {m:Int64}", [{"m": 0}, {"m": 100}]),
    Shape("having with a variable", "SELECT g, i, count() AS c FROM t GROUP BY g, i HAVING c > {n:UInt64} ORDER BY c DESC", [{"n": 0}, {"n": 14}, {"n": 1000}]),
    Shape("optional", "SELECT id, k FROM t WHERE k = {k:String} AND i = {i:Int32}", [{}, {"k": "a"}, {"i": 1}, {"k": "", "i": 0}], optional=frozenset({"k", "i"})),
    Shape("optional key", "SELECT g, count() FROM t WHERE g = {g:String} GROUP BY g", [{}, {"g": "p"}, {"g": "zz"}], optional=frozenset({"g"})),
    Shape("distinct, range on what is selected", "SELECT DISTINCT i FROM t WHERE i > {i:Int32} ORDER BY i DESC", NUMBERS),
    Shape("limit by, range on its key", "SELECT i, id FROM t WHERE i > {i:Int32} ORDER BY x LIMIT 1 BY i", NUMBERS),
    Shape("condition on nothing", "SELECT id FROM t WHERE k = {k:String} AND 1 = {one:UInt8}", [{"k": "a", "one": 1}, {"k": "a", "one": 2}]),
    Shape("float equality", "SELECT id FROM t WHERE f = {f:Float64}", [{"f": 0}], "type"),
    Shape("other type", "SELECT id FROM t WHERE i = {i:Int64}", [{"i": 0}], "type"),
    Shape("text as a day", "SELECT id FROM t WHERE d = {d:String}", DAYS, "query"),
    Shape("range on what is no key", "SELECT g, count() FROM t WHERE x > {x:Int64} GROUP BY g", [{"x": 1}], "not_a_key"),
    Shape("range under an alias that shadows", "SELECT substring(k, 2) AS k, count() FROM t WHERE substring(k, 2) > {k:String} GROUP BY k"),
    Shape("optional, no key", "SELECT g, uniq(x) FROM t WHERE k = {k:String} GROUP BY g", KEYS, "not_a_key", frozenset({"k"})),
    Shape("range under a window", "SELECT id, row_number() OVER (ORDER BY id) FROM t WHERE x > {x:Int64}", [{"x": 1}], "window"),
    Shape("range under DISTINCT", "SELECT DISTINCT g FROM t WHERE x > {x:Int64}", [{"x": 1}], "distinct"),
    Shape("range under LIMIT BY", "SELECT g, id FROM t WHERE x > {x:Int64} LIMIT 1 BY g", [{"x": 1}], "limit_by"),
    Shape("global aggregate", "SELECT count() FROM t WHERE k = {k:String}", KEYS, "global_aggregate"),
    Shape("IN an array", "SELECT id FROM t WHERE k IN {ks:Array(String)}", [{"ks": ["a"]}], "condition"),
    Shape("OR", "SELECT id FROM t WHERE k = {k:String} OR x > 5", KEYS, "condition"),
    Shape("or empty", "SELECT id FROM t WHERE ({k:String} = '' OR k = {k:String})", KEYS, "condition"),
    Shape("LIKE", "SELECT id FROM t WHERE k LIKE {k:String}", KEYS, "condition"),
    Shape("clock", "SELECT id FROM t WHERE k = {k:String} AND ts < now()", KEYS, "clock"),
    Shape("clock, as of", "SELECT today() AS d", NO_VARIABLES, "clock"),
    Shape("random", "SELECT rand() FROM t", NO_VARIABLES, "nondeterministic"),
    Shape("session", "SELECT currentUser() FROM t", NO_VARIABLES, "nondeterministic"),
    Shape("union", "SELECT id FROM t WHERE k = {k:String} UNION ALL SELECT 1", KEYS, "set_operator"),
    Shape("totals", "SELECT g, count() FROM t WHERE k = {k:String} GROUP BY g WITH TOTALS", KEYS, "with_totals"),
    Shape("rollup", "SELECT g, count() FROM t WHERE k = {k:String} GROUP BY g WITH ROLLUP", KEYS, "rollup"),
    Shape("grouping sets", "SELECT g, count() FROM t WHERE k = {k:String} GROUP BY GROUPING SETS ((g), ())", KEYS, "rollup"),
    Shape("fill", "SELECT d FROM t WHERE k = {k:String} ORDER BY d WITH FILL", KEYS, "with_fill"),
    Shape("ties", "SELECT d FROM t WHERE k = {k:String} ORDER BY d LIMIT 1 WITH TIES", KEYS, "with_ties"),
    Shape("group by nothing", "SELECT count() FROM t WHERE k = {k:String} GROUP BY ()", KEYS, "group_by_nothing"),
    Shape("order by all, descending", "SELECT id, x FROM t WHERE k = {k:String} ORDER BY ALL DESC", KEYS, "order_by_all"),
    Shape("variable in SELECT", "SELECT x * {f:Int64} FROM t", [{"f": 2}], "placeholder_in_select"),
    Shape("variable in WITH", "WITH {f:Int64} AS f SELECT x * f FROM t", [{"f": 2}], "placeholder_in_with"),
    Shape("variable in ORDER BY", "SELECT x FROM t ORDER BY x = {f:Int64} DESC", [{"f": 2}], "placeholder_in_order_by"),
    Shape("variable in GROUP BY", "SELECT count() FROM t GROUP BY x > {f:Int64}", [{"f": 2}], "placeholder_in_group_by"),
    Shape("variable in QUALIFY", "SELECT id FROM t QUALIFY row_number() OVER (ORDER BY id) < {f:UInt64}", [{"f": 2}], "placeholder_in_qualify"),
    Shape("variable in LIMIT BY", "SELECT id FROM t LIMIT {f:UInt64} BY g", [{"f": 2}], "placeholder_in_limit_by"),
    Shape("variable in a subquery of FROM", "SELECT count() FROM (SELECT * FROM t WHERE k = {k:String})", KEYS, "placeholder_in_from"),
    Shape("variable in ON", "SELECT id FROM t LEFT JOIN u ON t.k = u.k AND u.plan = {k:String}", KEYS, "placeholder_in_from"),
    Shape("variable in an IN subquery", "SELECT id FROM t WHERE k IN (SELECT k FROM u WHERE plan = {k:String})", KEYS, "placeholder_in_subquery"),
    Shape("arrayJoin in a condition", "SELECT id FROM t WHERE arrayJoin(tags) = {k:String}", KEYS, "array_join"),
    Shape("lambda in a condition", "SELECT id FROM t WHERE arrayExists(e -> e = {k:String}, tags)", KEYS, "lambda"),
    Shape("having without groups", "SELECT id, x FROM t HAVING x > {x:Int64}", [{"x": 1}], "having"),
    Shape("hidden name", "SELECT id AS __d0 FROM t WHERE k = {k:String}", KEYS, "hidden_name"),
    Shape("settings that change answers", "SELECT id FROM t WHERE k = {k:String} SETTINGS transform_null_in = 1", KEYS, "settings"),
    Shape("settings that do not", "SELECT id FROM t WHERE k = {k:String} SETTINGS max_threads = 1"),
    Shape("limit by an expression", "SELECT id FROM t WHERE k = {k:String} LIMIT 1 + 1", KEYS, "limit"),
    Shape("negative limit", "SELECT id FROM t WHERE k = {k:String} ORDER BY id LIMIT -2", KEYS, "limit"),
    Shape("statement in brackets", "(SELECT id FROM t WHERE k = {k:String})", KEYS, "unreadable"),
    Shape("window that builds on another", "SELECT sum(x) OVER (w ORDER BY id) FROM t WHERE k = {k:String} WINDOW w AS (PARTITION BY g)", KEYS, "window_name"),
    Shape("PREWHERE and FINAL", "SELECT id FROM t FINAL PREWHERE k = {k:String}", KEYS, "prewhere_final"),
    Shape("absolute sample", "SELECT id FROM t SAMPLE 1000 WHERE k = {k:String}", KEYS, "sample"),
]  # fmt: skip
