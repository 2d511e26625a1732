"""What stands in the way of a plan, whatever its variables: each with a code, a place and a way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from endpoints.query.clock import clock_calls, is_bound
from endpoints.query.lexer import Kind
from endpoints.query.plan.functions import is_nondeterministic
from endpoints.query.plan.keys import select_keys
from endpoints.query.plan.model import Refusal
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import ORDER_WORDS, Select, Source, Span
from endpoints.query.plan.terms import calls
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import Clause, parse, selects

_HIDDEN_NAME = re.compile(r"__(d|k|s|row|rows|asset|stored|part)\d*(_bytes)?|__p\d+_.*")

# Settings that decide how a query runs, never what it answers.
_SAFE_SETTINGS = frozenset(
    (
        "max_threads",
        "max_block_size",
        "max_execution_time",
        "max_memory_usage",
        "max_rows_to_read",
        "max_bytes_to_read",
        "max_bytes_before_external_group_by",
        "max_bytes_before_external_sort",
        "optimize_read_in_order",
        "optimize_aggregation_in_order",
        "optimize_move_to_prewhere",
        "use_uncompressed_cache",
        "priority",
        "log_comment",
        "load_balancing",
    )
)

_REFUSED_WORDS = (
    ("GROUP BY", ("TOTALS",), "with_totals"),
    ("GROUP BY", ("ROLLUP", "CUBE", "GROUPING"), "rollup"),
    ("ORDER BY", ("FILL", "INTERPOLATE"), "with_fill"),
    ("LIMIT", ("TIES",), "with_ties"),
)


def not_reproducible(source: Source, as_of: bool) -> Iterator[Refusal]:
    """Calls whose answer is no function of the tables' rows, and of one moment if clocks are bound to it."""
    for index in clock_calls(source.tokens):
        token = source.tokens[index]
        if not as_of or not is_bound(token):
            yield refusal("clock", token.line, token.name)
    for index, token in enumerate(source.tokens):
        called = source.is_op(index + 1, "(") and not (index and source.is_op(index - 1, "."))
        if called and is_nondeterministic(token.name):
            yield refusal("nondeterministic", token.line, token.name)


def under_variables(select: Select) -> Iterator[Refusal]:
    """Shapes through which no dimension is carried."""
    source = select.source
    for clause, words, code in _REFUSED_WORDS:
        body = select.body(clause)
        found = next((i for i in body or () if source.word(i) in words), None)
        if found is not None:
            yield refusal(code, source.tokens[found].line)
    yield from not_selected(select)
    head = select.body("WITH")
    if head and any((call.function or "").lower() in ("arrayjoin", "unnest") for call in calls(source, head)):
        yield refusal("array_join", source.line(head))
    for part in source.split(head) if head else ():
        if not _is_cte(source, part) and source.has_word(part, "OVER"):
            yield refusal("window", source.line(part))
    yield from _sample(source, select.body("FROM"))
    settings = select.body("SETTINGS")
    for part in source.split(settings) if settings else ():
        name = source.tokens[part.first].name
        if name not in _SAFE_SETTINGS:
            yield refusal("settings", source.line(part), name)


def hidden_names(source: Source) -> Iterator[Refusal]:
    """Names that a plan's own columns and tables have."""
    for token in source.tokens:
        if _HIDDEN_NAME.fullmatch(token.name):
            yield refusal("hidden_name", token.line, token.name)


def not_selected(select: Select) -> Iterator[Refusal]:
    """Beside DISTINCT, what orders or limits rows must be the same in all rows that DISTINCT makes one."""
    source = select.source
    if not select.distinct or select.distinct_on:
        return
    kept, names = select_keys(select).selected, {item.alias for item in select.items}
    order = select.body("ORDER BY")
    by = select.limit_by.by if select.limit_by else None
    for element in (part for body in (order, by) if body for part in source.split(body)):
        last = next((i for i in source.shallow(element) if source.word(i) in ORDER_WORDS), element.last)
        span = Span(element.first, last)
        if span and source.text(span) not in names and not kept.decide(span):
            yield refusal("not_selected", source.line(span), source.text(span))


def without_harmless_settings(sql: str) -> str:
    """The text without SETTINGS that change no answer: what is stored and what finishes have our own."""
    clauses = [*parse(sql).trailing, *(clause for select in selects(sql) for clause in select.clauses)]
    return splice(sql, [Edit(clause.start, clause.end, "") for clause in clauses if _is_harmless(clause)])


def _is_harmless(clause: Clause) -> bool:
    names = [name.name for name, after in pairwise(clause.tokens) if after.text == "="]
    return clause.keyword == "SETTINGS" and bool(names) and _SAFE_SETTINGS.issuperset(names)


def _is_cte(source: Source, part: Span) -> bool:
    """`name AS (SELECT …)`, with a scope of its own, not `expression AS name`."""
    return source.is_op(part.last - 1, ")") and any(source.word(i) == "AS" for i in source.shallow(part))


def _sample(source: Source, body: Span | None) -> Iterator[Refusal]:
    for index in body or ():
        if source.word(index) != "SAMPLE" or source.tokens[index + 1].kind is not Kind.NUMBER:
            continue
        relative = "." in source.tokens[index + 1].text or source.is_op(index + 2, "/")
        if not relative:
            yield refusal("sample", source.tokens[index].line)
