"""One hierarchy of errors.

EndpointsError
├── SettingsError          a setting is wrong: said once, at start
├── DefinitionError        endpoint.yaml or vN.sql is wrong: carries Problems
├── InputError             what a caller sent is wrong: carries FieldErrors
├── NoAsset                there is no asset to answer from, and the version does not run live then
├── UnsupportedType        a column's ClickHouse type has no form here
├── WarehouseError         ClickHouse did not answer; keeps ClickHouse's own code
│   ├── BadQuery           the query is at fault
│   ├── QueryTimeout       it ran too long
│   ├── OverLimit          it needed more memory, rows or bytes than allowed
│   │   └── AssetTooLarge  materializing would store more rows than `max_asset_rows`
│   ├── QueryCancelled     we stopped it
│   └── WarehouseUnavailable   no connection, a server that is gone, too busy
├── LakeError
│   ├── Unservable         this request's answer cannot be made of the asset now: it runs live
│   │   └── Unaligned      a bound lies within a bucket
│   ├── NoSnapshot         there is no such snapshot to go back to, or not all of it
│   ├── StoreUnavailable   the object store does not answer
│   ├── StoreUnsafe        the store ignores create-if-absent: refused at start
│   └── Corrupt            a published object is not what was published
│       └── MissingFile    it is not there at all: collected, or lost
├── ContractBreach         rows break the version's contract: carries Failures
└── CheckBreach            one of the version's own `checks:` found rows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class EndpointsError(Exception):
    """The root: everything this project raises on purpose."""


class SettingsError(EndpointsError):
    """A setting is missing or wrong. The message names the setting and the fix."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a definition, as `endpoints validate` prints it."""

    file: str
    line: int
    code: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message} [{self.code}] {self.fix}".rstrip()


class DefinitionError(EndpointsError):
    """An endpoint's files are wrong; every mistake found is listed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a request that cannot be used: `field`, a stable `code`, a sentence."""

    field: str
    code: str
    detail: str


class InputError(EndpointsError):
    """What the caller sent is wrong. Nothing has run."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        self.fields = tuple(fields)
        super().__init__("; ".join(f"{error.field}: {error.detail}" for error in self.fields))


class UnsupportedType(EndpointsError):
    """A column whose ClickHouse type cannot be stored or sent; the message names column and way out."""

    def __init__(self, type_text: str, column: str | None = None, fix: str = "") -> None:
        self.type_text, self.column, self.fix = type_text, column, fix
        where = f"column {column!r} has type" if column else "type"
        super().__init__(f"{where} {type_text}, which has no exact form here. {fix}".rstrip())


class WarehouseError(EndpointsError):
    """ClickHouse refused or failed. `clickhouse_code` is its own number where there was one.

    The message may hold engine text: for logs, Dagster and admins, never for callers.
    """

    def __init__(self, message: str, clickhouse_code: int | None = None) -> None:
        self.clickhouse_code = clickhouse_code
        super().__init__(message)


class BadQuery(WarehouseError):
    """The query itself is at fault."""


class QueryTimeout(WarehouseError):
    """The query ran longer than its limit."""


class OverLimit(WarehouseError):
    """The query needed more memory, rows or bytes than its limits allow."""


class AssetTooLarge(OverLimit):
    """The asset would have more rows than `max_asset_rows`; names the dimension that makes it so large."""


class QueryCancelled(WarehouseError):
    """The query was stopped on our side."""


class WarehouseUnavailable(WarehouseError):
    """No connection, a connection that broke, or a server that takes no more queries."""


class NoAsset(EndpointsError):
    """There is no asset to answer from, and the version does not run live then."""

    def __init__(self, key: str, reason: str | None) -> None:
        self.reason = reason
        why = "its asset is not asked for" if reason == "direct" else f"no asset can answer ({reason})"
        super().__init__(f"{why.capitalize()}, and {key} does not run live then: see `live_when`.")


class LakeError(EndpointsError):
    """The lake could not be read or written."""


class Unservable(LakeError):
    """The asset is good, but a request cannot be answered from it now: too much to finish, or no worker.

    The message may hold engine text: for logs, never for callers. `reason` is the word for callers.
    """

    reason: ClassVar[str] = "unservable"


class Unaligned(Unservable):
    """The asset stores buckets, and a bound is not on the edge of one."""

    reason: ClassVar[str] = "unaligned"


class NoSnapshot(LakeError):
    """The snapshot asked for never was, has been collected, or cannot be served. Nothing has changed."""


class StoreUnavailable(LakeError):
    """The object store does not answer."""


class StoreUnsafe(LakeError):
    """The object store does not keep create-if-absent, on which publishing rests."""


class Corrupt(LakeError):
    """A published object is missing, or its checksum is not the manifest's."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        super().__init__(f"{path}: {why}")


class MissingFile(Corrupt):
    """A file that a manifest names is not there; a reader of an old manifest loads the newest, once."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One check of a contract that rows broke. `examples` are for operators, never for callers."""

    check: str
    column: str | None
    count: int
    detail: str
    examples: tuple[Any, ...] = ()


class ContractBreach(EndpointsError):
    """Rows break the contract; the last good asset stays."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = tuple(failures)
        super().__init__("; ".join(f.detail for f in self.failures))


@dataclass(frozen=True, slots=True)
class FoundRows:
    """What one of a version's own checks found: how many rows, in words, and the first, for operators."""

    check: str
    rows: str
    examples: str

    def __str__(self) -> str:
        return f"{self.rows}, for example {self.examples}"


class CheckBreach(EndpointsError):
    """Queries of `checks:` that must give no rows gave some; the last good asset stays.

    `summary` names no values.
    """

    def __init__(self, found: Sequence[FoundRows]) -> None:
        self.found = tuple(found)
        self.summary = " ".join(f"The check {one.check} found {one.rows}." for one in found)
        super().__init__("; ".join(f"{one.check}: {one}" for one in found))
