"""Our tokens against ClickHouse's own: what it takes for a string, a comment, a number or a placeholder."""

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.query.lexer import Kind, significant, tokenize
from endpoints.query.variables import placeholders

REAL = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Whatever ends or hides something for a lexer, and plain text.
PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "'",
                '"',
                "`",
                "\\",
                "\\'",
                "''",
                "--",
                "/*",
                "*/",
                "#",
                "# ",
                "//",
                "\n",
                " ",
                "$",
                "$$",
                "$a$",
            ),
            *(
                "{",
                "}",
                "{v:String}",
                "{ v : Array(UInt8) }",
                "x'41'",
                "‘",
                "’",
                "“",
                "”",
                "-",
                "(",
                ")",
                "é",
            ),
            *("\0", "1", "1.5", ".5", "0x1F", "1e-3", "a", "::", "->", "||", ":", "T", ";", ",", "\u00a0"),
        ]
    ),
    st.text(max_size=4),
)
SQL = st.lists(PIECES, max_size=20).map("".join)


def kinds(sql: str) -> list[tuple[str, str]]:
    return [(token.kind.value, token.text) for token in significant(tokenize(sql))]


@given(SQL)
def test_tokens_join_to_the_source_and_know_their_place(sql: str) -> None:
    tokens = tokenize(sql)
    assert "".join(token.text for token in tokens) == sql
    for token in tokens:
        assert sql[token.start : token.end] == token.text
        assert token.text
        assert token.line == sql.count("\n", 0, token.start) + 1


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a.1.2", [("word", "a"), ("operator", "."), ("number", "1"), ("operator", "."), ("number", "2")]),
        (".5+1.", [("number", ".5"), ("operator", "+"), ("number", "1.")]),
        (r"'it''s \' {v:T}'", [("string", r"'it''s \' {v:T}'")]),
        ("a /* x /* y */ {v:T} */ b", [("word", "a"), ("word", "b")]),
        ("a -- {v:T}\nb # c\n// d\n#!e\nf", [("word", "a"), ("word", "b"), ("word", "f")]),
        ("$t$ {v:T} ' $t$", [("string", "$t$ {v:T} ' $t$")]),
        ("a$$b", [("word", "a$$b")]),
        (").1", [("operator", ")"), ("operator", "."), ("number", "1")]),
        ("1abc 0x1F 1_0 1e-3", [("word", "1abc"), ("number", "0x1F"), ("number", "1_0"), ("number", "1e-3")]),
        ("a<=>b::T", [("word", "a"), ("operator", "<=>"), ("word", "b"), ("operator", "::"), ("word", "T")]),
        ("a||x->1", [("word", "a"), ("operator", "||"), ("word", "x"), ("operator", "->"), ("number", "1")]),
        ("{v:Enum8('}' = 1)}", [("placeholder", "{v:Enum8('}' = 1)}")]),
        ("{ v /* } */ : UInt8 }", [("placeholder", "{ v /* } */ : UInt8 }")]),
        ("{v}", [("operator", "{"), ("word", "v"), ("operator", "}")]),
        ("'open {v:T}", [("error", "'open {v:T}")]),
        ("/* open {v:T}", [("error", "/* open {v:T}")]),
    ],
)  # fmt: skip
def test_kinds(sql: str, expected: list[tuple[str, str]]) -> None:
    assert kinds(sql) == expected


def test_quoted_names_are_unquoted() -> None:
    [token, *_] = tokenize(r'"a""b\"c"')
    assert token.kind is Kind.QUOTED
    assert token.name == 'a"b"c'


def test_spaces_are_those_of_clickhouse(clickhouse) -> None:
    candidates = [
        *"\t\n\v\f\r\x1c\x1f\x85",
        *map(chr, [0xA0, 0x180E, *range(0x1FFF, 0x2061), 0x3000, 0xFEFF, 0x1680]),
    ]
    for space in candidates:
        ours = tokenize(f"SELECT{space}1")[1].kind is Kind.SPACE
        assert ours == (clickhouse.error(f"SELECT{space}1") == ""), f"U+{ord(space):04X}"


STRING = st.text(st.sampled_from("ab'\\\"`-/*# \n{:}$;é"), max_size=8)
IN_QUOTES = {
    "'": STRING.map(lambda s: "'" + s.replace("\\", "\\\\").replace("'", "''") + "'"),
    "$": STRING.filter(lambda s: "$t$" not in s and not s.endswith("$t")).map(lambda s: f"$t${s}$t$"),
}
HIDING = st.one_of(
    IN_QUOTES["'"],
    IN_QUOTES["$"],
    st.just("1 /* {hidden:UInt8} /* ' */ */"),
    st.just("1 -- {hidden:UInt8} '\n"),
    st.just("'{hidden:UInt8}'"),
    st.just("$$ {hidden:UInt8} ' $$"),
    st.just("`{hidden:UInt8}`"),
    st.just("{shown:UInt8}"),
    st.just("{ shown /* } */ : UInt8 }"),
)


@REAL
@given(st.lists(HIDING, min_size=1, max_size=5))
def test_clickhouse_sees_the_same_placeholders_and_columns(clickhouse, items: list[str]) -> None:
    sql = "SELECT " + "\n, ".join(items) + " FROM (SELECT 1 AS `{hidden:UInt8}`)"
    found = {placeholder.name for placeholder in placeholders(sql)}
    assert found <= {"shown"}
    [row] = clickhouse.rows(sql, **dict.fromkeys(found, "7"))
    assert len(row) == len(items)
    if found:
        assert "`shown` is not set" in clickhouse.error(sql)


@REAL
@given(st.text(string.printable, max_size=6))
def test_a_text_of_one_number_or_word_is_one_token_to_both(clickhouse, text: str) -> None:
    tokens = significant(tokenize(text))
    if [t.kind for t in tokens] == [Kind.NUMBER]:
        assert clickhouse.error(f"SELECT {text}\n") == ""
    elif any(t.kind is Kind.ERROR for t in tokens) and ";" not in text:
        # Past a `;` embedded ClickHouse reads no further; we refuse what stands there all the same.
        assert clickhouse.error(f"SELECT {text}\n") != ""
