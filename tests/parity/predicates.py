"""Every kind of predicate over every kind of expression: as a filter of rows, and below an aggregation.

The second column is a condition, the third the sets of values to ask for. All of them are served.
"""

# ruff: noqa: E501  (a table: one row a line)

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.parity.shapes import Shape

Given = Sequence[Mapping[str, object]]
WORDS: Given = [{"k": "a"}, {"k": ""}, {"k": "zz"}]
PATTERNS: Given = [{"p": "a%"}, {"p": "%B"}, {"p": "_"}]
NUMBERS: Given = [{"x": 3}, {"x": 99}]
LISTS: Given = [{"ks": ["a", ""]}, {"ks": []}]
NULLS: Given = [{"n": None}, {"n": "x"}]
DAYS: Given = [{"d": "2026-02-02"}, {"d": "2027-01-01"}]
JSON = "concat('{\"plan\":\"', g, '\",\"n\":', toString(x), '}')"

PREDICATES: Sequence[tuple[str, str, Given]] = [
    ("==", "k == {k:String}", WORDS),
    ("!=", "k != {k:String}", WORDS),
    ("<>", "k <> {k:String}", WORDS),
    ("<", "x < {x:Int64}", NUMBERS),
    ("<=", "x <= {x:Int64}", NUMBERS),
    (">", "x > {x:Int64}", NUMBERS),
    (">=, NULLs", "m >= {x:Int64}", NUMBERS),
    ("!=, NULLs", "n != {k:String}", [{"k": "x"}, {"k": ""}]),
    ("IN", "k IN {ks:Array(String)}", LISTS),
    ("IN several variables", "k IN ({a:String}, {b:String})", [{"a": "a", "b": ""}]),
    ("NOT IN", "k NOT IN {ks:Array(String)}", LISTS),
    ("BETWEEN", "x BETWEEN {a:Int64} AND {b:Int64}", [{"a": 3, "b": 40}, {"a": 40, "b": 3}]),
    ("NOT BETWEEN", "x NOT BETWEEN {a:Int64} AND {b:Int64}", [{"a": 3, "b": 40}]),
    ("LIKE, NULLs", "n LIKE {p:String}", [*PATTERNS, {"p": "%"}]),
    ("NOT LIKE", "k NOT LIKE {p:String}", PATTERNS),
    ("NOT LIKE, NULLs", "n NOT LIKE {p:String}", PATTERNS),
    ("ILIKE", "k ILIKE {p:String}", PATTERNS),
    ("NOT ILIKE", "k NOT ILIKE {p:String}", PATTERNS),
    ("startsWith", "startsWith(k, {k:String})", WORDS),
    ("endsWith, twice", "endsWith(k, {k:String}) AND position(k, {k:String}) > 0", WORDS),
    ("has, the variable's", "has({ks:Array(String)}, k)", LISTS),
    ("hasAny", "hasAny(tags, {ks:Array(String)})", [{"ks": ["x", "y"]}, {"ks": []}]),
    ("multiSearchAny", "multiSearchAny(k, {ks:Array(String)})", [{"ks": ["a", "z"]}]),
    ("lower, wrapped", "lower(k) = lower({k:String})", WORDS),
    ("toDate, wrapped", "d = toDate({d:String})", DAYS),
    ("toDate, wrapped, range", "toDate(ts) >= toDate({d:String})", DAYS),
    ("toDate of a moment", "toDate(ts) < {d:Date}", DAYS),
    ("CAST of a variable", "toDate(ts) < CAST({d:String} AS Date)", DAYS),
    ("number of a text", "x > toInt64({t:String})", [{"t": "7"}]),
    ("JSONExtractString", f"JSONExtractString({JSON}, 'plan') = {{g:String}}", [{"g": "p"}, {"g": "zz"}]),
    ("JSONExtractInt, range", f"JSONExtractInt({JSON}, 'n') > {{x:Int64}}", NUMBERS),
    ("coalesce", "coalesce(n, 'none') = {n:String}", [{"n": "none"}, {"n": "x"}]),
    ("tuples", "(k, x) >= ({k:String}, {x:Int64})", [{"k": "a", "x": 20}]),
    ("CASE", "CASE WHEN {k:String} = '' THEN 1 WHEN k = {k:String} THEN 1 ELSE 0 END", WORDS),
    ("? :", "{k:String} = '' ? 1 : k = {k:String}", WORDS),
    ("one variable in many places", "(k = {k:String} OR g = {k:String} OR n = {k:String}) AND {k:String} != ''", WORDS),
    ("two on one expression", "x >= {a:Int64} AND x < {b:Int64}", [{"a": 3, "b": 40}, {"a": 40, "b": 3}]),
    ("OR on one dimension", "k = {a:String} OR k = {b:String}", [{"a": "a", "b": "A"}, {"a": "zz", "b": ""}]),
    ("OR of ranges", "(x < {a:Int64} OR x > {b:Int64}) AND NOT (i = {i:Int32})", [{"a": 5, "b": 40, "i": 0}]),
    ("NOT of an OR", "NOT (k = {a:String} OR x > {x:Int64})", [{"a": "a", "x": 30}]),
    ("NULL or equal", "({n:Nullable(String)} IS NULL AND n IS NULL OR n = {n:Nullable(String)})", NULLS),
    ("IS NOT DISTINCT FROM", "n IS NOT DISTINCT FROM {n:Nullable(String)}", NULLS),
    ("an empty array is any", "empty({ks:Array(String)}) OR has({ks:Array(String)}, k)", LISTS),
]  # fmt: skip

OPTIONAL = "x >= {x:Int64} AND k IN {ks:Array(String)} AND NOT flag = {b:Bool}"
ABSENT: Given = [{}, {"x": 30}, {"ks": ["a"], "b": True}, {"x": 10, "ks": ["", "b"]}]


def _shapes(name: str, condition: str, given: Given, optional: frozenset[str] = frozenset()) -> list[Shape]:
    rows = f"SELECT id, k FROM t WHERE {condition} ORDER BY id"
    groups = f"SELECT g, count() AS c, uniq(k) AS u FROM t WHERE {condition} GROUP BY g ORDER BY g"
    return [
        Shape(f"predicate: {name}, {level}", sql, given, optional=optional)
        for level, sql in (("rows", rows), ("groups", groups))
    ]


SHAPES = [
    *(shape for predicate in PREDICATES for shape in _shapes(*predicate)),
    *_shapes("optional", OPTIONAL, ABSENT, frozenset({"x", "ks", "b"})),
]
