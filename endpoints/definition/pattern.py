"""Patterns of variables: regular expressions whose time grows with the text alone.

The dialect is Rust's, which pydantic and Polars have on board: no look-around and no backreferences, so no
value can make a pattern run for hours, and the end `$` is the end (Python's would let a last line break
through). A contract's patterns are read by Polars in the same dialect.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

_CAUSE: Final = "error: "


class Pattern:
    """A compiled pattern."""

    def __init__(self, text: str) -> None:
        """ValueError with one sentence where `text` is no pattern."""
        try:
            schema = core_schema.str_schema(pattern=text, regex_engine="rust-regex")
            self._validator = SchemaValidator(schema)
        except SchemaError as error:
            cause = str(error).rpartition(_CAUSE)[2].strip().rpartition("SchemaError: ")[2]
            raise ValueError(cause.rstrip(".")) from None

    def found_in(self, text: str) -> bool:
        """Whether the pattern is found somewhere in the text; `^` and `$` tie it to the ends."""
        return self._validator.isinstance_python(text)


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """The pattern, compiled once. ValueError with one sentence where it is none."""
    return Pattern(text)
