"""One YAML file as plain data, with the line of every key and value.

PyYAML's parser, but not its constructors: those read YAML 1.1, in which `country: no` is False, `12:30:00`
is 45000 and a later key silently replaces an earlier one. Here only `true`, `false`, `null` and numbers are
not text, as in YAML 1.2, dates stay text for whoever knows that a date is meant, and a key given twice is a
Problem.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from endpoints.errors import Problem

Path_ = tuple[str | int, ...]

MAX_BYTES: Final = 1 << 20
# Aliases share nodes, so a few lines can mean billions of values ("billion laughs").
_MAX_VALUES: Final = 100_000
_MAX_DEPTH: Final = 50

_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_MERGE: Final = "tag:yaml.org,2002:merge"
_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "value", "seq", "map", "merge")
)

_Loader: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the C parser where there is one: ten times as fast


@dataclass(slots=True)
class Document:
    """`data` is mappings, lists and scalars; keys are text, as written. `lines` locates them by path.

    `texts` holds each plain scalar as written: `1.10` is a float in `data`, but a Decimal's author meant
    the text.
    """

    file: str
    data: Any = None
    lines: dict[Path_, int] = field(default_factory=dict)
    texts: dict[Path_, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: int = 0

    def line(self, path: Path_) -> int:
        """The line of the value or key at `path`, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def report(self, path: Path_, code: str, message: str, fix: str = "") -> None:
        """Note a problem at a path."""
        self.problems.append(Problem(self.file, self.line(path), code, message, fix))

    def raw(self, path: Path_, value: Any) -> Any:
        """The value as its author wrote it: scalars as text, lists of them likewise, null as None."""
        if isinstance(value, list):
            return [self.raw((*path, index), item) for index, item in enumerate(value)]
        return self.texts.get(path, value)


class _TooLarge(Exception):
    """The document means more values, or deeper ones, than any definition needs."""


def read_document(path: Path, shown: str) -> Document:
    """Read a YAML file; whatever is wrong with it is in `problems`. `shown` is the path that people see."""
    document = Document(shown)
    text = read_text(path, document)
    if text is None:
        return document
    try:
        node = yaml.compose(text, Loader=_Loader)
        document.data = None if node is None else _construct(node, (), document, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark else 0
        message = f"This is not YAML: {error.problem or error.context}."
        fix = _yaml_fix(error, [*text.split("\n"), ""][line])
        document.problems.append(Problem(shown, line + 1, "invalid_yaml", message, fix))
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        message = "The file holds a character that YAML does not allow."
        document.problems.append(
            Problem(shown, line, "invalid_yaml", message, "Remove the control character.")
        )
    except (_TooLarge, RecursionError):
        message = "The file's aliases and nesting mean more than any definition needs."
        document.problems.append(Problem(shown, 1, "invalid_yaml", message, "Write the values out."))
    return document


def read_text(path: Path, document: Document) -> str | None:
    """A file's text; None, with a problem in `document`, where it cannot be had."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        document.report(
            (), "unreadable", f"The file cannot be read: {reason}.", "Check that it is there and readable."
        )
        return None
    if len(content) > MAX_BYTES:
        document.report((), "too_large", "The file is larger than 1 MiB.", "Split the endpoint into several.")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"The file is not UTF-8: byte 0x{content[error.start]:02x}."
        document.problems.append(Problem(document.file, line, "not_utf8", message, "Save it as UTF-8."))
        return None


def _yaml_fix(error: yaml.MarkedYAMLError, line: str) -> str:
    if line[: len(line) - len(line.lstrip())].count("\t"):
        return "Indent with spaces, not tabs."
    if error.context and "single document" in error.context:
        return "Keep one document per file: remove the `---` line."
    return "Check indentation, colons, quotes, here and a line before; quote text that holds `: ` or ` #`."


def _construct(node: yaml.Node, path: Path_, document: Document, depth: int) -> Any:
    document.values += 1
    if document.values > _MAX_VALUES or depth > _MAX_DEPTH:
        raise _TooLarge
    document.lines.setdefault(path, node.start_mark.line + 1)
    if node.tag not in _TAGS:
        document.report(path, "invalid_yaml", f"The tag {node.tag} means nothing here.", "Remove it.")
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document, depth)
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(item, (*path, index), document, depth + 1) for index, item in enumerate(node.value)
        ]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node.value, node.style, path, document)


def _mapping(node: yaml.MappingNode, path: Path_, document: Document, depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    merged: list[yaml.Node] = []
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE:
            merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            document.lines[(*path, "?")] = key_node.start_mark.line + 1
            document.report((*path, "?"), "invalid_yaml", "A key must be a name or a number.", "Quote it.")
            continue
        key, line = key_node.value, key_node.start_mark.line + 1
        if key in result:
            first = document.lines[(*path, key)]
            message, fix = f"{key!r} is given twice; the first is on line {first}.", "Keep one of them."
            document.problems.append(Problem(document.file, line, "duplicate_key", message, fix))
            continue
        document.lines[(*path, key)] = line
        result[key] = _construct(value_node, (*path, key), document, depth + 1)
    for base in merged:
        if not isinstance(base, yaml.MappingNode):
            document.report(
                path, "invalid_yaml", "`<<` merges mappings only.", "Point it at a mapping's anchor."
            )
            continue
        scratch = Document(document.file, values=document.values)
        inherited = _construct(base, path, scratch, depth + 1)
        document.values = scratch.values
        for key in inherited.keys() - result.keys():
            _adopt(document, scratch, (*path, key))
            result[key] = inherited[key]
    return result


def _adopt(document: Document, scratch: Document, path: Path_) -> None:
    """Take over what `<<` merged in at `path`: the lines and texts of the anchor."""
    size = len(path)
    document.lines.update({p: line for p, line in scratch.lines.items() if p[:size] == path})
    document.texts.update({p: text for p, text in scratch.texts.items() if p[:size] == path})


def _scalar(text: str, style: str | None, path: Path_, document: Document) -> Any:
    if style:  # quoted, or a block: text, whatever it looks like
        return text
    if text in _NULL:
        return None
    document.texts[path] = text
    if text in _BOOL:
        return _BOOL[text]
    if _INTEGER.fullmatch(text):
        # int() itself refuses thousands of digits; such a number is wrong wherever it stands.
        return int(text) if len(text) <= 100 else text
    return float(text) if _FLOAT.fullmatch(text) else text
