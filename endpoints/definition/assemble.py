"""endpoint.yaml and its vN.sql files → one Endpoint, or every Problem in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from endpoints.definition.checks import read_checks
from endpoints.definition.document import Document, Path_, read_document, read_text
from endpoints.definition.explain import read_endpoint_model
from endpoints.definition.fingerprint import combined, lock_parts, rows_fingerprint
from endpoints.definition.model import (
    LIVE_REASONS,
    Check,
    ColumnContract,
    Contract,
    Endpoint,
    Limits,
    Materialize,
    Partitions,
    Version,
)
from endpoints.definition.partitions import read_partitions
from endpoints.definition.schedule import longest_gap, parse_schedule
from endpoints.definition.schema import (
    ContractYaml,
    EndpointYaml,
    LimitsYaml,
    MaterializeYaml,
    VersionYaml,
)
from endpoints.definition.variables import read_pattern, read_variables
from endpoints.errors import Problem, UnsupportedType
from endpoints.query import bans
from endpoints.query.permitted import Allow
from endpoints.types import ClickHouseType, Column, check_storable, parse_type, parse_value

NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,127}", re.ASCII)
YAML_NAME: Final = "endpoint.yaml"
DEFAULT_FRESHNESS: Final = timedelta(hours=1)

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_SQL_NAME = re.compile(r"v([0-9]+)\.sql", re.ASCII)


def read_endpoint(folder: Path, shown: str, allow: Allow) -> Endpoint | tuple[Problem, ...]:
    """The endpoint of a folder, or all that is wrong with it. `shown` is the folder as people see it."""
    document = Document(f"{shown}/{YAML_NAME}")
    name = shown.rpartition("/")[2]
    if not NAME.fullmatch(name):
        message = f"{name!r} cannot be an endpoint's name."
        fix = "Rename the folder: a letter, then up to 127 letters, digits, _ and -."
        document.report((), "bad_name", message, fix)
    if not (folder / YAML_NAME).is_file():
        document.report((), "missing_yaml", f"{name} has no {YAML_NAME}.", _missing_yaml_fix(folder))
        return tuple(document.problems)
    naming = document.problems
    document = read_document(folder / YAML_NAME, f"{shown}/{YAML_NAME}")
    document.problems[:0] = naming
    model = read_endpoint_model(document)
    if model is None:
        return tuple(document.problems)
    endpoint = _Assembly(folder, shown, document, model, allow).endpoint()
    return tuple(document.problems) if document.problems else endpoint


def _missing_yaml_fix(folder: Path) -> str:
    return (
        "Rename endpoint.yml."
        if (folder / "endpoint.yml").exists()
        else f"Add {YAML_NAME}, or remove the folder."
    )


class _Assembly:
    """One endpoint in the making.

    Problems gather in `document`; what is built counts only if there are none.
    """

    def __init__(
        self, folder: Path, shown: str, document: Document, model: EndpointYaml, allow: Allow
    ) -> None:
        self.folder, self.shown, self.document, self.model, self.allow = folder, shown, document, model, allow

    def endpoint(self) -> Endpoint:
        numbers = self._numbers()
        self._check_strays(numbers)
        versions = {number: self._version(number, key) for number, key in sorted(numbers.items())}
        self._check_current(versions)
        model = self.model
        return Endpoint(
            name=self.folder.name,
            description=model.description,
            owner=model.owner,
            tags=tuple(model.tags),
            current=model.current,
            versions=versions,
            folder=self.folder,
            alerts=None if model.alerts is None else tuple(model.alerts),
        )

    def _numbers(self) -> dict[int, str]:
        """Version numbers, each with its key in the file."""
        numbers: dict[int, str] = {}
        for key in self.model.versions:
            if _NUMBER.fullmatch(key):
                numbers[int(key)] = key
            else:
                fix = "Number versions 1, 2, 3, …, without quotes or zeros in front."
                self.document.report(
                    ("versions", key), "bad_version_number", f"{key!r} is not a version number.", fix
                )
        return numbers

    def _check_strays(self, numbers: Mapping[int, str]) -> None:
        """A query that no version names is a forgotten line, or a release by accident."""
        for path in sorted(self.folder.glob("*.sql")):
            match = _SQL_NAME.fullmatch(path.name)
            if match is None or path.name != f"v{int(match[1])}.sql":
                fix = "Name it v1.sql, v2.sql, … after its version, or remove it."
                self._report_sql(path.name, 1, "stray_sql", f"{path.name} is no version's query.", fix)
            elif int(match[1]) not in numbers:
                fix = f"Add `{int(match[1])}: ` under `versions:` in {YAML_NAME}, or remove the file."
                self._report_sql(path.name, 1, "stray_sql", f"{path.name} is no version's query.", fix)

    def _check_current(self, versions: Mapping[int, Version]) -> None:
        current = self.model.current
        if current not in versions:
            known = ", ".join(map(str, versions)) or "none"
            self._report(
                ("current",),
                "unknown_current",
                f"current is {current}, which is not a version.",
                f"Versions here: {known}.",
            )
        elif versions[current].sunset is not None:
            message = f"Version {current} is current and has a sunset."
            fix = "Move `current` to another version first, or remove the sunset."
            self._report(("versions", str(current), "sunset"), "sunset_current", message, fix)

    def _version(self, number: int, key: str) -> Version:
        at: Path_ = ("versions", key)
        model = self.model.versions[key]
        self._check_served(model, at)
        sql_file = self.folder / f"v{number}.sql"
        sql = self._sql(sql_file, at)
        variables = read_variables(
            sql, model.variables, self.document, (*at, "variables"), f"{self.shown}/{sql_file.name}"
        )
        materialize = self._materialize(model.materialize, (*at, "materialize"))
        partitions = materialize.partitions if materialize else None
        contract = self._contract(model.contract, (*at, "contract")) if model.contract else None
        freshness = model.freshness or _default_freshness(materialize)
        parts = lock_parts(sql, variables, contract, partitions, model.clock)
        self._check_dates(model, at)
        return Version(
            endpoint=self.folder.name,
            number=number,
            sql=sql,
            sql_file=sql_file,
            variables=variables,
            freshness=freshness,
            cache=freshness if model.cache is None else model.cache,
            live_when=self._live_when(model, at),
            materialize=materialize,
            contract=contract,
            limits=_limits(model.limits),
            deprecated=model.deprecated,
            sunset=model.sunset,
            public=model.public,
            clock=model.clock,
            description=model.description,
            fingerprint=rows_fingerprint(sql, variables, partitions, model.clock),
            lock_parts=parts,
            lock_fingerprint=combined(parts),
            line=self.document.line(at),
            checks=self._checks(model, at),
            stale_while_revalidate=self._stale_while_revalidate(model, at),
        )

    def _checks(self, model: VersionYaml, at: Path_) -> tuple[Check, ...]:
        if model.checks and model.materialize is None:
            message = "There are `checks`, but no `materialize`: live rows are not checked."
            fix = "Add `materialize: {schedule: hourly}`, or remove them."
            self._report((*at, "checks"), "bad_check", message, fix)
        return read_checks(model.checks, self.document, (*at, "checks"), self.allow)

    def _check_served(self, model: VersionYaml, at: Path_) -> None:
        if "insight" in model.model_fields_set:
            fix = "Write the query in vN.sql."
            self._report((*at, "insight"), "not_served", "`insight:` is not served yet.", fix)

    def _sql(self, path: Path, at: Path_) -> str:
        """The query's text, its bans checked; empty where there is none."""
        if not path.is_file():
            self._report(
                at, "missing_sql", f"{path.name} is missing.", f"Write the query in {self.shown}/{path.name}."
            )
            return ""
        sql = read_text(path, reading := Document(f"{self.shown}/{path.name}"))
        self.document.problems += reading.problems
        if sql is None:
            return ""
        for code, message, fix, line in bans.check(sql, self.allow):
            self._report_sql(path.name, line, code, message, fix)
        return sql

    def _live_when(self, model: VersionYaml, at: Path_) -> frozenset[str]:
        if model.live_when is None:
            return LIVE_REASONS
        if not model.live_when and model.materialize is None:
            message = "`live_when: []` without `materialize` leaves nothing to answer from."
            fix = "Add `materialize: {schedule: hourly}`, or remove `live_when`."
            self._report((*at, "live_when"), "never_answers", message, fix)
        return frozenset(model.live_when)

    def _stale_while_revalidate(self, model: VersionYaml, at: Path_) -> timedelta:
        if model.stale_while_revalidate is not None and model.live_when == []:
            message = "`live_when: []` never runs live: nothing would revalidate what is stale."
            fix = "Remove `stale_while_revalidate`, or name in `live_when` when to run live."
            self._report((*at, "stale_while_revalidate"), "never_revalidates", message, fix)
        return model.stale_while_revalidate or timedelta(0)

    def _check_dates(self, model: VersionYaml, at: Path_) -> None:
        if model.deprecated and model.sunset and model.sunset < model.deprecated:
            message = f"sunset {model.sunset} is before deprecated {model.deprecated}."
            self._report(
                (*at, "sunset"), "bad_dates", message, "Let callers know first: deprecated, then sunset."
            )

    def _materialize(self, model: MaterializeYaml | None, at: Path_) -> Materialize | None:
        if model is None:
            # `materialize:` with nothing after it reads as if it were not there; its author meant it to be.
            if at in self.document.lines:
                fix = "Write `materialize: {schedule: hourly}`, or remove the line."
                self._report(at, "invalid_value", "`materialize:` says nothing.", fix)
            return None
        partitions: Partitions | None = None
        if model.partitions is not None:
            partitions = read_partitions(model.partitions, self.document, (*at, "partitions"))
        cron = parse_schedule(model.schedule) if model.schedule else None
        return Materialize(model.schedule, cron, partitions, model.paused)

    def _contract(self, model: ContractYaml, at: Path_) -> Contract:
        columns = {}
        for name, column in model.columns.items():
            here = (*at, "columns", name)
            values = {
                key: self.document.raw((*here, key), getattr(column, key))
                for key in ("ge", "gt", "le", "lt", "isin")
            }
            self._check_column(values, column.type, column.pattern, here)
            isin = values.pop("isin")
            rest = {
                key: getattr(column, key)
                for key in ("type", "nullable", "pattern", "min_length", "max_length", "unique")
            }
            columns[name] = ColumnContract(**values, **rest, isin=None if isin is None else tuple(isin))
        rows = model.rows
        if rows.min is not None and rows.max is not None and rows.min > rows.max:
            self._report(
                (*at, "rows"), "bad_contract", f"rows: min {rows.min} is above max {rows.max}.", "Swap them."
            )
        return Contract(columns, tuple(model.unique), rows.min, rows.max)

    def _check_column(
        self, values: Mapping[str, object], type_text: str | None, pattern: str | None, at: Path_
    ) -> None:
        if pattern is not None:
            read_pattern(pattern, self.document, (*at, "pattern"))
        if type_text is None:
            return
        try:
            type_ = parse_type(type_text)
            check_storable([Column("column", type_)])
        except UnsupportedType:
            message = f"No column can have the type {type_text!r}."
            fix = "Write a type that can be stored, as DESCRIBE shows it: UInt64, Nullable(String), Date."
            self._report((*at, "type"), "bad_contract_type", message, fix)
            return
        for key, value in values.items():
            for item in value if isinstance(value, list) else [] if value is None else [value]:
                self._check_column_value(key, type_, item, at)

    def _check_column_value(self, key: str, type_: ClickHouseType, value: object, at: Path_) -> None:
        try:
            parse_value(type_.base, value)
        except ValueError as error:
            message = f"{key} {value!r} is not of type {type_}: {str(error).rstrip('.')}."
            fix = "Write a value of the column's type."
            self._report((*at, key), "bad_contract_value", message, fix)

    def _report(self, path: Path_, code: str, message: str, fix: str) -> None:
        self.document.report(path, code, message, fix)

    def _report_sql(self, name: str, line: int, code: str, message: str, fix: str) -> None:
        self.document.problems.append(Problem(f"{self.shown}/{name}", line, code, message, fix))


def _default_freshness(materialize: Materialize | None) -> timedelta:
    """An hour; with a schedule its longest gap and an hour: not stale while the next asset is made."""
    if materialize is None or materialize.cron is None:
        return DEFAULT_FRESHNESS
    return longest_gap(materialize.cron) + DEFAULT_FRESHNESS


def _limits(model: LimitsYaml) -> Limits:
    return Limits(model.timeout, model.max_rows, model.max_memory, model.rate, model.max_asset_rows)
