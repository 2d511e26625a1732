"""Output contract → pandera schema → verdict.

`Audit` holds the rows of a materialization to its version's `contract:`, batch by batch while they are
written and before anything is published. Live rows are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self

import polars as pl
import pyarrow as pa
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

from endpoints.contract_schema import check_of, comparable, is_ordered, readable, schema, value_checks
from endpoints.definition import Contract
from endpoints.duplicates import DuplicateFinder, RunDuplicateFinder
from endpoints.errors import ContractBreach, Failure
from endpoints.lake.manifest import CheckResult
from endpoints.query.plan.model import HIDDEN
from endpoints.types import ClickHouseType, Column, parse_type, storage_type

EXAMPLES = 5
EXAMPLE_LENGTH = 80
BATCH_ROWS = 131_072
_NULLS, _VALUES = SchemaErrorReason.SERIES_CONTAINS_NULLS, SchemaErrorReason.DATAFRAME_CHECK


class Audit:
    """Holds a stream of batches to a contract, in bounded memory.

    `columns` are the result's, hidden dimension columns included. `unique` is promised per set of variable
    values: `unique_within` names the dimension columns, each with its variable; rows come sorted by them. A
    contract about columns that the result lacks, or has with another type, raises ContractBreach at once: no
    row needs to be read. `timezone` is the server's.

    Use it in a `with` block: what it keeps on disk is dropped at the end.
    """

    def __init__(
        self,
        contract: Contract,
        columns: Sequence[Column],
        *,
        unique_within: Mapping[str, str] = MappingProxyType({}),
        timezone: str = "UTC",
    ) -> None:
        self._contract = contract
        self._types = {column.name: column.type for column in columns}
        broken = tuple(_structural(contract, self._types))
        if broken:
            raise ContractBreach(broken)
        self._schema = schema(contract, columns, timezone)
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._rows = 0
        self._within = dict(unique_within)
        keys: list[tuple[str, ...]] = [(name,) for name, rules in contract.columns.items() if rules.unique]
        if contract.unique:
            keys.append(tuple(contract.unique))
        self._duplicates = {key: self._finder() for key in keys}

    def add(self, batch: pa.RecordBatch) -> None:
        """Check one batch in storage form."""
        for offset in range(0, batch.num_rows, BATCH_ROWS):
            self._add(batch.slice(offset, BATCH_ROWS))

    def finish(self) -> tuple[CheckResult, ...]:
        """Every check's result, or ContractBreach with every failure."""
        failures = [
            *(tally.failure(column, check) for (column, check), tally in self._tallies.items()),
            *self._unique_failures(),
            *row_failures(self._contract, self._rows),
        ]
        if failures:
            raise ContractBreach(failures)
        seen = _count(self._rows, "row")
        return tuple(CheckResult(name, True, seen) for name in check_names(self._contract))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for finder in self._duplicates.values():
            finder.close()

    def _add(self, batch: pa.RecordBatch) -> None:
        self._rows += batch.num_rows
        frame = pl.DataFrame(
            {name: readable(batch.column(name), self._types[name]) for name in self._schema.columns}
        )
        try:
            # Said here: PANDERA_VALIDATION_DEPTH in somebody's environment would silently skip the values.
            with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
                self._schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            for error in errors.schema_errors:
                self._tally(error)
        for key, finder in self._duplicates.items():
            names = dict.fromkeys((*self._within, *key))
            finder.add(pl.DataFrame({n: comparable(batch.column(n), self._types[n]) for n in names}))

    def _finder(self) -> DuplicateFinder | RunDuplicateFinder:
        """Neighbours tell repeated keys where Polars knows the order that the rows have."""
        if self._within and all(is_ordered(self._types[name]) for name in self._within):
            return RunDuplicateFinder(tuple(self._within))
        return DuplicateFinder()

    def _tally(self, error: SchemaError) -> None:
        if error.reason_code not in (_NULLS, _VALUES) or not isinstance(error.failure_cases, pl.DataFrame):
            raise error  # a check that could not run is no verdict about the rows
        check = "nullable" if error.reason_code is _NULLS else str(error.check.name)
        tally = self._tallies.setdefault((str(error.schema.name), check), _Tally())
        tally.add(error.failure_cases.to_series(0))

    def _unique_failures(self) -> Iterator[Failure]:
        for key, finder in self._duplicates.items():
            found = finder.finish(EXAMPLES)
            if found.surplus:
                per = f" within {', '.join(self._within.values())}" if self._within else ""
                examples = tuple(self._show(found.examples))
                detail = f"{', '.join(key)}: {_count(found.surplus, 'row')} repeat a key{per} [unique]"
                column = key[0] if len(key) == 1 else None
                yield Failure("unique", column, found.surplus, _with_examples(detail, examples), examples)

    def _show(self, keys: pl.DataFrame) -> Iterator[str]:
        columns = [readable(_stored(keys[n], self._types[n]), self._types[n]) for n in keys.columns]
        names = [self._within.get(name, name) for name in keys.columns]
        for values in zip(*columns, strict=True):
            yield ", ".join(f"{name}={_shown(value)}" for name, value in zip(names, values, strict=True))


@dataclass(slots=True)
class _Tally:
    """What one check of one column has found so far."""

    count: int = 0
    examples: tuple[str, ...] = ()

    def add(self, cases: pl.Series) -> None:
        self.count += len(cases)
        if len(self.examples) < EXAMPLES:
            seen = cases.unique(maintain_order=True).head(EXAMPLES).to_list()
            self.examples = tuple(dict.fromkeys((*self.examples, *map(_shown, seen))))[:EXAMPLES]

    def failure(self, column: str, check: str) -> Failure:
        detail = f"{column}: {_count(self.count, 'value')} not allowed by [{check}]"
        return Failure(check, column, self.count, _with_examples(detail, self.examples), self.examples)


def check_names(contract: Contract) -> tuple[str, ...]:
    """The name of every check a contract makes: `column.check`, `unique`, `rows`."""
    names = []
    for column, rules in contract.columns.items():
        names += [f"{column}.type"] if rules.type is not None else []
        names += [f"{column}.nullable"] if rules.nullable is not None else []
        names += [f"{column}.{check}" for check in value_checks(rules)]
        names += [f"{column}.unique"] if rules.unique else []
    names += ["unique"] if contract.unique else []
    if contract.rows_min is not None or contract.rows_max is not None:
        names.append("rows")
    return tuple(names)


def _structural(contract: Contract, types: Mapping[str, ClickHouseType]) -> Iterator[Failure]:
    """What the result's columns alone show to be broken."""
    known = [name for name in types if not name.startswith(HIDDEN)]
    for name in dict.fromkeys((*contract.columns, *contract.unique)):
        if name not in known:
            detail = f"{name}: not a column of the result, which has {', '.join(known)} [column]"
            yield Failure("column", name, 0, detail)
    for name in (name for name in contract.columns if name in known):
        rules, t = contract.columns[name], types[name]
        if rules.type is not None and parse_type(rules.type) != t:
            yield Failure("type", name, 0, f"{name}: has type {t}, not {rules.type} [type]")
        for check, value in value_checks(rules).items():
            try:
                check_of(check, value, t)
            except (ValueError, ArithmeticError, re.error) as error:
                yield Failure(check, name, 0, f"{name}: {error} [{check}]")


def row_failures(contract: Contract, rows: int) -> Iterator[Failure]:
    """`rows:` of the contract, of an asset of so many rows."""
    if contract.rows_min is not None and rows < contract.rows_min:
        yield Failure("rows", None, rows, f"{_count(rows, 'row')}, fewer than {contract.rows_min} [rows]")
    if contract.rows_max is not None and rows > contract.rows_max:
        yield Failure("rows", None, rows, f"{_count(rows, 'row')}, more than {contract.rows_max} [rows]")


def _stored(series: pl.Series, t: ClickHouseType) -> pa.Array:
    return series.to_arrow().cast(storage_type(t))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _shown(value: Any) -> str:
    return _clip("null" if value is None else str(value))


def _clip(text: str) -> str:
    return text if len(text) <= EXAMPLE_LENGTH else f"{text[: EXAMPLE_LENGTH - 1]}…"


def _with_examples(detail: str, examples: Sequence[str]) -> str:
    return f"{detail}, for example {'; '.join(examples)}" if examples else detail
