"""What no definition's SQL may hold, checked on ClickHouse's tokens.

The warehouse runs everything read-only and capped, but that alone is not enough: `readonly=1` still allows
the scalar `file('/etc/passwd')` and INTO OUTFILE, and a query's own SETTINGS would beat our caps. Functions
that read a table are refused unless listed, since every ClickHouse release brings new ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from endpoints.query.lexer import Kind, Token, significant, tokenize
from endpoints.query.permitted import (
    DICTIONARIES,
    NOTHING_MORE,
    REFUSED_FUNCTIONS,
    REFUSED_SETTINGS,
    REFUSED_TABLE_FUNCTIONS,
    SETTINGS,
    SYSTEM_DATABASES,
    SYSTEM_TABLES,
    TABLE_FUNCTIONS,
    Allow,
)
from endpoints.query.structure import closing, operand_positions, selects, strip_semicolons, top_level


class Ban(NamedTuple):
    """One thing that may not be there; `line` counts from 1."""

    code: str
    message: str
    fix: str
    line: int


_READS: Final = frozenset({"SELECT", "WITH"})
_QUERY_STARTS: Final = frozenset({"SELECT", "WITH", "FROM"})
_BANNED_WORDS: Final = frozenset({"INTO", "FORMAT", "TOTALS", "PARALLEL", "EXPLAIN"})
_MAX_DEPTH: Final = 100  # of brackets; ClickHouse's own parser gives up at some hundreds
_OPERATORS: Final = frozenset(["AND", "OR", "XOR", "IS", "IN", "NOT", "LIKE", "ILIKE", "BETWEEN", "AS"])


def check(sql: str, allow: Allow = NOTHING_MORE) -> list[Ban]:
    """Everything in the SQL that may not be there, by line; empty if it may run."""
    tokens = significant(tokenize(sql))
    if not strip_semicolons(tokens):
        return [Ban("empty_sql", "There is no query here.", "Write a SELECT.", 1)]
    broken = list(_broken(tokens))
    if broken:  # what follows an open quote is anybody's guess
        return broken
    found = [
        *_statements(tokens),
        *_clauses(tokens),
        *_functions(sql, tokens, allow),
        *_system_tables(tokens),
        *_settings(tokens, allow),
    ]
    return sorted(found, key=lambda ban: ban.line)


def _broken(tokens: Sequence[Token]) -> Iterator[Ban]:
    """What ClickHouse's lexer or its simplest rules refuse."""
    opened: list[Token] = []
    braces: set[int] = set()  # lines told of
    pairs = {")": "(", "]": "["}
    for token in tokens:
        if token.kind is Kind.ERROR:
            yield _bad_token(token)
        elif token.kind is not Kind.OPERATOR:
            continue
        elif token.text in "{}":
            if token.line not in braces:
                fix = "Write a placeholder as {name:Type}, as in {customer_id:String}."
                yield Ban("bad_placeholder", "Braces hold no placeholder here.", fix, token.line)
            braces.add(token.line)
        elif token.text in "([":
            opened.append(token)
            if len(opened) > _MAX_DEPTH:
                yield Ban(
                    "bad_sql", f"Brackets are nested deeper than {_MAX_DEPTH}.", "Simplify.", token.line
                )
                return
        elif token.text in pairs and (not opened or opened.pop().text != pairs[token.text]):
            yield Ban("bad_sql", f"`{token.text}` closes nothing.", "Check the brackets.", token.line)
            return
    if opened:
        yield Ban("bad_sql", f"`{opened[-1].text}` is never closed.", "Check the brackets.", opened[-1].line)


def _bad_token(token: Token) -> Ban:
    if token.text[0] in "'\"`‘“":
        return Ban("bad_sql", f"The quote {token.text[0]} is never closed.", "Close it.", token.line)
    if token.text.startswith("/*"):
        return Ban(
            "bad_sql", "The comment /* is never closed.", "Close it with */; comments nest.", token.line
        )
    fix = "Remove it, or put it in quotes."
    return Ban("bad_sql", f"ClickHouse does not read the character {token.text!r}.", fix, token.line)


def _statements(tokens: Sequence[Token]) -> Iterator[Ban]:
    """One statement, and one that reads."""
    body = strip_semicolons(tokens)
    first = next((t for t in body if t.text != "("), body[0])
    if first.word not in _READS:
        message = f"The query begins with {first.text!r}."
        yield Ban("not_a_select", message, "An endpoint reads: begin with SELECT or WITH.", first.line)
    for index, token in enumerate(body):
        if token.text == ";" and token.kind is Kind.OPERATOR:
            yield Ban(
                "several_statements",
                "There is a second statement after `;`.",
                "Keep one SELECT.",
                body[index + 1].line,
            )
            return


def _clauses(tokens: Sequence[Token]) -> Iterator[Ban]:
    """INTO OUTFILE, FORMAT, WITH TOTALS and statements that are no SELECT, wherever they stand."""
    if not any(token.word in _BANNED_WORDS for token in tokens):
        return
    operand = operand_positions(tokens)
    for index, token in enumerate(tokens):
        previous = tokens[index - 1] if index else None
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if following is None or (previous is not None and (previous.text == "." or previous.word == "AS")):
            continue
        if token.word == "INTO" and following.kind in (Kind.WORD, Kind.STRING):
            yield Ban(
                "into_outfile", "INTO writes somewhere.", "Remove it: callers get the rows.", token.line
            )
        elif token.word == "FORMAT" and following.kind in (Kind.WORD, Kind.QUOTED) and not operand[index]:
            fix = "Remove it: callers choose with `format=` or Accept."
            yield Ban("format_clause", "FORMAT is not the query's to choose.", fix, token.line)
        elif token.word == "WITH" and following.word == "TOTALS" and not operand[index]:
            fix = "Use WITH ROLLUP, or UNION ALL with the total."
            yield Ban("with_totals", "Totals are no row, and an answer has only rows.", fix, token.line)
        elif token.word == "PARALLEL" and following.word == "WITH" and not operand[index]:
            message = "PARALLEL WITH begins a second statement."
            yield Ban("several_statements", message, "Keep one SELECT.", token.line)
        elif token.word == "EXPLAIN" and previous is not None and _begins_statement(previous, following):
            yield Ban("not_a_select", "EXPLAIN tells about the server.", "Remove it.", token.line)


def _begins_statement(previous: Token, following: Token) -> bool:
    """Whether a word between these can begin a statement: `(EXPLAIN SELECT …)`, not `(explain AND a)`."""
    return previous.text == "(" and following.kind is Kind.WORD and following.word not in _OPERATORS


def _functions(sql: str, tokens: Sequence[Token], allow: Allow) -> Iterator[Ban]:
    """Calls: where a table is due only listed ones, elsewhere all that reach nothing outside the query."""
    allowed = frozenset(name.lower() for name in allow.table_functions)
    refused = REFUSED_TABLE_FUNCTIONS - allowed
    tables = set(_table_calls(sql))
    for token, following in pairwise(tokens):
        name = token.name.lower()
        if not name or following.text != "(":
            continue
        if token.start in tables:
            if name not in allowed | TABLE_FUNCTIONS:
                yield _refused_table_function(token)
        elif name == "file":
            fix = "Load the file as a table of the warehouse."
            yield Ban("file_function", f"{token.text}() reads files of the server.", fix, token.line)
        elif name in refused:
            yield _refused_table_function(token)
        elif DICTIONARIES.fullmatch(name):
            message = f"{token.text}() reads a dictionary, whose changes nothing here sees."
            yield Ban("dictionary", message, "Join the table that the dictionary is made from.", token.line)
        elif REFUSED_FUNCTIONS.fullmatch(name):
            yield Ban(
                "refused_function",
                f"{token.text}() reaches outside the query's rows.",
                "Remove it.",
                token.line,
            )


def _refused_table_function(token: Token) -> Ban:
    fix = (
        "Read a table of the warehouse; an operator can list the function in ENDPOINTS_ALLOW_TABLE_FUNCTIONS."
    )
    return Ban("table_function", f"The table function {token.text}() is not allowed.", fix, token.line)


def _table_calls(sql: str) -> Iterator[int]:
    """The offsets of all names that are called where a table is due, at any depth."""
    for select in selects(sql):
        for clause in select.clauses:
            if clause.keyword == "FROM":
                yield from (token.start for token in _called_tables(clause.tokens))


def _called_tables(tokens: Sequence[Token]) -> Iterator[Token]:
    """The names of table functions in a FROM clause, without its first word; not those of inner queries."""
    due, listing = True, False  # whether a table is due; whether an ARRAY JOIN lists expressions
    for index, token in top_level(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if due and token.name and following is not None and following.text == "(":
            yield token
        if due and token.text == "(" and following is not None and following.word not in _QUERY_STARTS:
            yield from _called_tables(tokens[index + 1 : closing(tokens, index)])
        if token.word == "JOIN":
            listing = bool(index) and tokens[index - 1].word == "ARRAY"
            due = not listing
        else:
            due = token.text == "," and not listing


def _system_tables(tokens: Sequence[Token]) -> Iterator[Ban]:
    for index, token in enumerate(tokens[:-2]):
        if token.name.lower() not in SYSTEM_DATABASES or tokens[index + 1].text != ".":
            continue
        if (index and tokens[index - 1].text == ".") or tokens[index + 2].name.lower() in SYSTEM_TABLES:
            continue
        table = f"{token.name}.{tokens[index + 2].name}"
        fix = "Read the tables of your data; to alias a table, choose another name."
        yield Ban("system_table", f"{table} tells about the server.", fix, token.line)


def _settings(tokens: Sequence[Token], allow: Allow) -> Iterator[Ban]:
    for name, value in query_settings(tokens):
        setting = name.name
        if setting in SETTINGS or setting in allow.settings:
            if any(token.kind is Kind.PLACEHOLDER for token in value):
                yield Ban(
                    "refused_setting",
                    f"The setting {setting} takes a caller's value.",
                    "Write the value out.",
                    name.line,
                )
            continue
        reason = next((why for pattern, why in REFUSED_SETTINGS if pattern.fullmatch(setting)), None)
        near = difflib.get_close_matches(setting, SETTINGS, n=1, cutoff=0.8)
        fix = f"Remove it: it {reason}." if reason else f"Did you mean {near[0]}?" if near else _SETTINGS_FIX
        yield Ban(
            "refused_setting", f"The setting {setting!r} is not one that a query may carry.", fix, name.line
        )


_SETTINGS_FIX: Final = (
    "Remove it; docs/definitions.md lists those allowed, and ENDPOINTS_ALLOW_SETTINGS adds to them."
)


def query_settings(tokens: Sequence[Token]) -> Iterator[tuple[Token, tuple[Token, ...]]]:
    """Name and value tokens of every setting in any SETTINGS clause, at any depth."""
    if not any(token.word == "SETTINGS" for token in tokens):
        return
    operand = operand_positions(tokens)
    for index, token in enumerate(tokens[:-1]):
        if token.word != "SETTINGS" or (
            index and (tokens[index - 1].text == "." or tokens[index - 1].word == "AS")
        ):
            continue
        assigned = index + 2 < len(tokens) and tokens[index + 2].text == "="
        if tokens[index + 1].name and (assigned or not operand[index]):
            yield from _assignments(tokens[index + 1 :])


def _assignments(tokens: Sequence[Token]) -> Iterator[tuple[Token, tuple[Token, ...]]]:
    """`name = value, name, …` until something else."""
    index = 0
    while index < len(tokens) and tokens[index].name:
        name, first = tokens[index], index + 1
        index = first
        if first < len(tokens) and tokens[first].text == "=":
            first += 1
            index = next(
                (i for i, t in top_level(tokens) if i >= first and (t.text in (",", ")", ";") or t.word)),
                len(tokens),
            )
            index = max(index, first + 1)
        yield name, tuple(tokens[first:index])
        if index >= len(tokens) or tokens[index].text != ",":
            return
        index += 1
