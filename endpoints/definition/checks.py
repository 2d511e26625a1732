"""`checks:` of a version: queries that must give no rows, over its new rows or over the warehouse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from endpoints.definition.document import Document, Path_
from endpoints.definition.model import Check
from endpoints.definition.schema import CheckYaml
from endpoints.query import bans
from endpoints.query.permitted import Allow
from endpoints.query.tables import tables
from endpoints.query.variables import placeholders

ASSET: Final = "asset"
"""What a check calls the version's new rows."""
RESERVED: Final = frozenset({"contract", "parity", "freshness", "row_count", "schema", "source"})
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}", re.ASCII)


def read_checks(
    models: Mapping[str, CheckYaml], document: Document, at: Path_, allow: Allow
) -> tuple[Check, ...]:
    """The checks as their author means them; problems go into `document`."""
    return tuple(_check(name, model, document, (*at, name), allow) for name, model in models.items())


def _check(name: str, model: CheckYaml, document: Document, at: Path_, allow: Allow) -> Check:
    if not _NAME.fullmatch(name) or name in RESERVED:
        fix = f"Use letters, digits and _, and none of {', '.join(sorted(RESERVED))}."
        document.report(at, "bad_check", f"{name!r} cannot be a check's name.", fix)
    found = bans.check(model.sql, allow)
    for code, message, fix, line in found:
        document.report((*at, "sql"), code, f"{name}, line {line} of its query: {message}", fix)
    for message, fix in [] if found else _mistakes(name, model.sql):
        document.report((*at, "sql"), "bad_check", message, fix)
    over_asset = ASSET in map(str, tables(model.sql))
    return Check(name, model.sql, model.severity, model.description, over_asset)


def _mistakes(name: str, sql: str) -> Iterator[tuple[str, str]]:
    read = [str(table) for table in tables(sql)]
    if placeholders(sql):
        yield f"{name} takes values, but nobody calls a check.", "Write the values out."
    if not read:
        yield f"{name} reads no table.", "Read `asset`, the new rows, or tables of the warehouse."
    elif ASSET in read and len(read) > 1:
        others = ", ".join(table for table in read if table != ASSET)
        fix = "Read one or the other; a table of the warehouse called asset is written with its database."
        yield f"{name} reads `asset` and {others}, which are in two places.", fix
