"""Rows as bytes for callers: JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Literal, TypeAlias

import orjson

from endpoints.rows import Rows
from endpoints.types import Integers, csv_values, json_values

Shape: TypeAlias = Literal["arrays", "objects"]


def json_rows(rows: Rows, shape: Shape = "arrays", integers: Integers = "number") -> bytes:
    """The JSON array of rows: each an array in the order of the columns, or an object by their names."""
    columns = [
        json_values(array, column.type, timezone=rows.timezone, integers=integers)
        for array, column in zip(rows.table.columns, rows.columns, strict=True)
    ]
    values: Iterator[tuple[object, ...]] = zip(*columns, strict=True)
    if shape == "arrays":
        return orjson.dumps(list(values))
    names = [column.name for column in rows.columns]
    return orjson.dumps([dict(zip(names, row, strict=True)) for row in values])


def csv_rows(rows: Rows) -> bytes:
    """RFC 4180: a header line, then a line for each row, ended by CRLF, in UTF-8. NULL is an empty field."""
    columns = [
        csv_values(array, column.type, timezone=rows.timezone)
        for array, column in zip(rows.table.columns, rows.columns, strict=True)
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.name for column in rows.columns])
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()
