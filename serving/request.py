"""What a caller asks of a run: read from a query string or a JSON body, and nothing believed.

GET carries variables and options as query parameters. POST carries them in a JSON object, only there. Both
end as one `Asked`. Everything that is not understood is refused: an option that was ignored would be a
silent lie.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Literal, NoReturn, get_args
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect, Request

from endpoints.definition import Version
from endpoints.errors import FieldError, InputError
from endpoints.formats import Shape
from endpoints.types import Integers
from serving.problems import HttpProblem

Refresh = Literal["cache", "force", "direct"]
Format = Literal["json", "ndjson", "csv", "arrow", "parquet"]

MAX_QUERY_BYTES = 32 * 1024  # well below what uvicorn takes, whose own refusal is not a problem document
MAX_PARAMETERS = 1_000
MAX_BODY_BYTES = 1024 * 1024
MAX_WHOLE = 2**53 - 1  # what a JSON number carries exactly everywhere
MAX_CLIENT_ID = 128

# No variable may have one of these names (design §3) …
RESERVED = frozenset({"version", "refresh", "limit", "offset", "cursor", "format", "shape", "debug"})
# … but one may have one of these: in a query string the variable wins.
ALSO_OPTIONS = frozenset({"integers", "count", "client_query_id"})
OPTIONS = RESERVED | ALSO_OPTIONS

_Reader = Callable[[str, object], object]

_WHOLE = re.compile(r"-?[0-9]{1,40}", re.ASCII)  # further out of range than any option
_CLIENT_ID = re.compile(rf"[\x21-\x7e]{{1,{MAX_CLIENT_ID}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for rows. `variables` are not parsed yet: texts or lists of them, or JSON values."""

    variables: Mapping[str, object]
    refresh: Refresh = "cache"
    limit: int | None = None
    offset: int = 0
    cursor: str | None = None
    format: Format | None = None
    shape: Shape | None = None
    integers: Integers = "number"
    count: bool = False
    debug: bool = False
    client_query_id: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it was sent, before the version is known that says which names are variables."""

    options: Mapping[str, object]
    variables: Mapping[str, object]
    pairs: Mapping[str, Sequence[str]] | None  # of a query string; None for a body

    @property
    def version(self) -> int | None:
        """The pinned version, if any. Raises InputError."""
        given: object = self.options.get("version")
        if self.pairs is not None and "version" in self.pairs:
            given = _from_text(_once("version", self.pairs["version"]))
        return None if given is None else _whole("version", given, at_least=1, at_most=2**31)

    @property
    def cursor(self) -> str | None:
        """The cursor, if any: it says which version is asked. Raises InputError."""
        given: object = self.options.get("cursor")
        if self.pairs is not None and "cursor" in self.pairs:
            given = _once("cursor", self.pairs["cursor"])
        return None if given is None else _text_option("cursor", given)

    def ask(self, version: Version, wrong: list[FieldError]) -> Asked:
        """What is asked of `version`. What is wrong goes to `wrong`, and stays as if it were not given."""
        options, variables = self.options, self.variables
        if self.pairs is not None:
            options, variables = _split(self.pairs, version, wrong)
        return _options(options, variables, wrong)


@contextmanager
def gathered(wrong: list[FieldError]) -> Iterator[None]:
    """Adds the fields of an InputError to `wrong`, so that a caller sees all mistakes at once; each once."""
    try:
        yield
    except InputError as error:
        named = {field.field for field in wrong}
        wrong.extend(field for field in error.fields if field.field not in named)


def read_query(query: bytes) -> Call:
    """A call from a query string. HttpProblem `malformed_query`; InputError for values that are no text."""
    if len(query) > MAX_QUERY_BYTES:
        raise HttpProblem(
            "malformed_query", f"The query string is longer than {MAX_QUERY_BYTES} bytes; use POST."
        )
    pairs: dict[str, list[str]] = {}
    parts = [part for part in query.split(b"&") if part]
    if len(parts) > MAX_PARAMETERS:
        raise HttpProblem("malformed_query", f"The query string has more than {MAX_PARAMETERS} parameters.")
    wrong: list[FieldError] = []
    for part in parts:
        raw_name, _, raw = part.partition(b"=")
        name, value = _text(raw_name), _text(raw)
        if name is None:
            raise HttpProblem("malformed_query")
        if value is None:
            wrong.append(FieldError(name, "not_utf8", "The value is not percent-encoded UTF-8."))
        else:
            pairs.setdefault(name, []).append(value)
    if wrong:
        raise InputError(wrong)
    return Call({}, {}, pairs)


async def read_fields(request: Request) -> dict[str, object]:
    """The fields of a JSON body; none where there is no body.

    InputError where something is in the URL, or HttpProblem (malformed, too large, of another type).
    """
    if request.scope["query_string"]:
        detail = "POST takes this in its JSON body."
        raise InputError([FieldError(name, "not_in_url", detail) for name in _names(request)])
    body = await _body(request)
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpProblem("unsupported_media_type")
    return _json_object(body)


async def read_body(request: Request) -> Call:
    """A call from a JSON body. InputError and HttpProblem, as `read_fields` raises them."""
    fields = await read_fields(request)
    unknown = [name for name in fields if name not in OPTIONS and name != "variables"]
    if unknown:
        detail = "No such field. Variables go inside `variables`."
        raise InputError([FieldError(name, "unknown_field", detail) for name in unknown])
    variables = fields.pop("variables", {})
    if variables is None:
        variables = {}
    if not isinstance(variables, dict):
        raise InputError(
            [FieldError("variables", "wrong_type", "Must be a JSON object of names and values.")]
        )
    return Call({name: value for name, value in fields.items() if value is not None}, variables, None)


def refuse_body(request: Request) -> None:
    """A GET with a body would be ignored in silence: refuse it."""
    headers = request.headers
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise HttpProblem(
            "malformed_body", "GET takes no body: send variables in the query string, or use POST."
        )


def check_page(asked: Asked) -> None:
    """InputError for what a cursor has decided already."""
    wrong = [
        FieldError(name, "not_with_cursor", "The cursor says where the page begins.")
        for name, given in (("offset", asked.offset != 0), ("refresh", asked.refresh == "direct"))
        if given
    ]
    if wrong:
        raise InputError(wrong)


def _names(request: Request) -> list[str]:
    pairs = read_query(request.scope["query_string"]).pairs
    return list(pairs or ())


def _text(raw: bytes) -> str | None:
    """The text of a name or a value; None where its bytes are no UTF-8."""
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        return None


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise _too_large()
            chunks.append(chunk)
    except ClientDisconnect:
        raise HttpProblem("malformed_body", "The body did not arrive whole.") from None
    return b"".join(chunks)


def _too_large() -> HttpProblem:
    return HttpProblem("body_too_large", f"The body is larger than {MAX_BODY_BYTES} bytes.")


class _BadNumber(ValueError):
    """A JSON number that is not one, or that a double cannot hold."""


def _json_object(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_float=_exact_float,
            parse_constant=_no_constant,
        )
    except _BadNumber as error:
        raise HttpProblem("malformed_body", str(error)) from None
    except (ValueError, RecursionError):
        raise HttpProblem("malformed_body") from None
    if not isinstance(fields, dict):
        raise HttpProblem("malformed_body")
    return fields


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    "".join(fields).encode()  # a lone surrogate is no text, and could not even be named in a problem
    if len(fields) < len(pairs):
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise InputError([FieldError(name, "repeated", "Given more than once.") for name in twice])
    return fields


def _exact_float(text: str) -> float:
    """Python would round 1.00000000000000000001 in silence; the caller can send it as a string instead."""
    number = float(text)
    if number in (float("inf"), float("-inf")) or Decimal(repr(number)) != Decimal(text):
        raise _BadNumber(f"The number {text[:40]} does not fit a double exactly; send it as a string.")
    return number


def _no_constant(text: str) -> NoReturn:
    raise _BadNumber(f"{text} is not JSON.")


def _split(
    pairs: Mapping[str, Sequence[str]], version: Version, wrong: list[FieldError]
) -> tuple[dict[str, object], dict[str, object]]:
    """Query parameters parted into options and variables; a repeated scalar goes to `wrong`."""
    options: dict[str, object] = {}
    variables: dict[str, object] = {}
    for name, values in pairs.items():
        variable = version.variables.get(name)
        if name in RESERVED or (variable is None and name in ALSO_OPTIONS):
            target = options
        elif variable is not None and variable.type.base.name == "Array" and len(values) > 1:
            variables[name] = list(values)
            continue
        else:
            target = variables
        if len(values) > 1:
            wrong.append(FieldError(name, "repeated", "Given more than once."))
        else:
            typed = target is options and name != "cursor"
            target[name] = _from_text(values[0]) if typed else values[0]
    return options, variables


def _from_text(text: str) -> object:
    """An option of a query string as JSON would have it: digits, `true` and `false` are no strings there."""
    if _WHOLE.fullmatch(text):
        return int(text)
    return {"true": True, "false": False}.get(text, text)


def _options(
    options: Mapping[str, object], variables: Mapping[str, object], wrong: list[FieldError]
) -> Asked:
    read: dict[str, Any] = {}
    for name, value in options.items():
        if name == "version":
            continue
        try:
            read[name] = _READERS[name](name, value)
        except InputError as error:
            wrong.extend(error.fields)
    return Asked(variables, **{name: value for name, value in read.items() if value is not None})


def _refused(name: str, code: str, detail: str) -> InputError:
    return InputError([FieldError(name, code, detail)])


def _whole(name: str, value: object, *, at_least: int, at_most: int = MAX_WHOLE) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refused(name, "wrong_type", "Must be a whole number.")
    if not at_least <= value <= at_most:
        raise _refused(name, "out_of_range", f"Must be between {at_least} and {at_most}.")
    return value


def _choice(*words: str) -> _Reader:
    def read(name: str, value: object) -> object:
        if not isinstance(value, str) or value not in words:
            raise _refused(name, "not_offered", f"Must be one of: {', '.join(words)}.")
        return value

    return read


def _text_option(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _refused(name, "wrong_type", "Must be a string.")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _refused(name, "wrong_type", "Must be true or false.")
    return value


def _client_id(name: str, value: object) -> str:
    if not isinstance(value, str) or not _CLIENT_ID.fullmatch(value):
        raise _refused(name, "malformed", f"Must be 1 to {MAX_CLIENT_ID} visible ASCII characters.")
    return value


def _once(name: str, values: Sequence[str]) -> str:
    if len(values) > 1:
        raise _refused(name, "repeated", "Given more than once.")
    return values[0]


_READERS: Mapping[str, _Reader] = {
    "refresh": _choice("cache", "force", "direct"),
    "limit": partial(_whole, at_least=1),
    "offset": partial(_whole, at_least=0),
    "cursor": _text_option,
    "format": _choice(*get_args(Format)),
    "shape": _choice("arrays", "objects"),
    "debug": _flag,
    "integers": _choice("number", "string"),
    "count": _flag,
    "client_query_id": _client_id,
}
