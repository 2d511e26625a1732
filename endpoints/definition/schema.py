"""What endpoint.yaml may hold: the model that reads it, and the JSON Schema that editors complete it from.

Shapes only. Whatever needs the SQL beside it (types, optional, defaults) is checked in `assemble.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from endpoints.definition.schedule import CADENCES, parse_schedule
from endpoints.units import RATE, parse_duration, parse_size

SCHEMA_ID: Final = "endpoint.schema.json"
MAX_COUNT: Final = 2**53  # what JSON readers count exactly, and less than any integer setting of ClickHouse

_SCALAR_SCHEMA: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}
_BOUND_SCHEMA: dict[str, Any] = {"type": ["string", "number"]}
_VALUE_SCHEMA: dict[str, Any] = {"anyOf": [_SCALAR_SCHEMA, {"type": "array", "items": _SCALAR_SCHEMA}]}


def _text(parse: Callable[[str], Any], example: str) -> BeforeValidator:
    """Reads text with `parse`; anything else is told how to write it."""

    def read(value: object) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text; write it as in {example}")
        return parse(value)

    return BeforeValidator(read)


def _parse_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a size; write it as in 1GiB")
    return parse_size(str(value))


def _parse_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a date; write it as in 2026-01-31") from None


def _positive(parse: Callable[[str], timedelta]) -> Callable[[str], timedelta]:
    def read(text: str) -> timedelta:
        value = parse(text)
        if value <= timedelta(0):
            raise ValueError(f"{text!r} is no time at all; write a longer duration, as in 60s")
        return value

    return read


def _check_schedule(text: str) -> str:
    parse_schedule(text)
    return text


_DURATION_SCHEMA = {
    "type": "string",
    "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d|w)$",
    "examples": ["60s", "1h", "7d"],
}
Duration = Annotated[
    timedelta, _text(_positive(parse_duration), "60s or 1h"), WithJsonSchema(_DURATION_SCHEMA)
]
DurationOrZero = Annotated[timedelta, _text(parse_duration, "60s or 0s"), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[
    int,
    BeforeValidator(_parse_size),
    Field(ge=1, le=MAX_COUNT),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["1GiB"]}),
]
Date = Annotated[date, _text(_parse_date, "2026-01-31"), WithJsonSchema({"type": "string", "format": "date"})]
Schedule = Annotated[
    str,
    _text(_check_schedule, "hourly"),
    WithJsonSchema({"type": "string", "anyOf": [{"enum": list(CADENCES)}, {"pattern": r"^\S+( +\S+){4}$"}]}),
]
Value = Annotated[Any, WithJsonSchema(_VALUE_SCHEMA)]
Bound = Annotated[Any, WithJsonSchema(_BOUND_SCHEMA)]
Moment = Annotated[str, WithJsonSchema({"type": "string", "examples": ["2026-01-01"]})]
RouteName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
NotServed = Annotated[Any, WithJsonSchema({"deprecated": True})]


class Mapped(BaseModel):
    """A mapping whose keys are all known; one with nothing in it may be left empty."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return {} if value is None else value


class VariableYaml(Mapped):
    """What SQL cannot say of a variable. Its name and type are in the SQL, `{name:Type}`."""

    description: str | None = Field(None, description="What it means, for callers.")
    example: Value = Field(None, description="A value to show in the docs, and to try the query with.")
    default: Value = Field(
        None,
        description="Where callers give none: a literal, or today/now ± n{m,h,d,w}, as in `today - 30d`.",
    )
    optional: bool = Field(False, description="Not given: the condition that holds it is dropped.")
    enum: list[Bound] | None = Field(None, min_length=1, description="The only values allowed.")
    min: Bound = Field(None, description="The least value allowed.")
    max: Bound = Field(None, description="The greatest value allowed.")
    max_length: int | None = Field(
        None, ge=1, le=8192, description="Most characters, or elements of an array."
    )
    pattern: str | None = Field(
        None, description="Regular expression that is found somewhere in the value; use ^ and $."
    )
    private: bool = Field(False, description="Never shown in logs or errors.")
    bucket: Literal["minute", "hour", "day", "week", "month"] | None = Field(
        None, description="Store by buckets of this length; only bounds on an edge are answered from them."
    )


class PartitionsYaml(Mapped):
    """How the asset is sliced, so that a refresh reads only what is new."""

    column: str = Field(
        min_length=1, description="The column that is sliced, a date or time; or any, by list."
    )
    by: Literal["hour", "day", "week", "month", "list"] = Field(description="How long a slice is.")
    start: Moment | None = Field(
        None, description="First slice. Older rows are in neither the asset nor live answers."
    )
    end: Moment | None = Field(
        None, description="Rows from here on are in neither. Default: none, slices go on."
    )
    timezone: str = Field("UTC", description="The zone whose days, weeks and months are meant.")
    refresh: int = Field(
        1, ge=1, description="How many of the newest slices are computed again, for late data."
    )
    table: str | None = Field(None, description="The table that is sliced, where the query reads several.")
    values: list[Bound] | None = Field(None, min_length=1, description="The slices, by list.")


class MaterializeYaml(Mapped):
    """When rows are computed ahead and kept. Without it the version is live only."""

    schedule: Schedule | None = Field(
        None, description="hourly, 6h, daily, weekly or a cron line, in UTC. Default: only on demand."
    )
    partitions: PartitionsYaml | None = Field(
        None, description="Slices by time or by list. Default: one piece."
    )
    paused: bool = Field(False, description="true: schedules leave it alone; asked for, it is made.")


class ColumnContractYaml(Mapped):
    """What every value of a result column must satisfy."""

    type: str | None = Field(None, description="ClickHouse type, as in UInt64.")
    nullable: bool | None = Field(None, description="false: no NULL.")
    ge: Bound = Field(None, description="At least this.")
    gt: Bound = Field(None, description="More than this.")
    le: Bound = Field(None, description="At most this.")
    lt: Bound = Field(None, description="Less than this.")
    isin: list[Value] | None = Field(None, min_length=1, description="One of these.")
    pattern: str | None = Field(None, description="Regular expression found somewhere in the value.")
    min_length: int | None = Field(None, ge=0, description="Fewest characters.")
    max_length: int | None = Field(None, ge=0, description="Most characters.")
    unique: bool = Field(False, description="No value twice, per set of variable values.")


class RowsYaml(Mapped):
    """How many rows the whole asset may have."""

    min: int | None = Field(None, ge=0, le=MAX_COUNT, description="Fewest rows.")
    max: int | None = Field(None, ge=0, le=MAX_COUNT, description="Most rows.")


class ContractYaml(Mapped):
    """What rows must satisfy before they are published."""

    columns: dict[str, ColumnContractYaml] = Field({}, description="By result column.")
    unique: list[str] = Field([], description="Columns that together are unique, per set of variable values.")
    rows: RowsYaml = Field(RowsYaml(), description="Row count of the whole asset.")


class LimitsYaml(Mapped):
    """What one request may cost."""

    timeout: Duration = Field(
        timedelta(seconds=10), description="Longest live run.", json_schema_extra={"default": "10s"}
    )
    max_rows: int = Field(50_000, ge=1, le=MAX_COUNT, description="Most rows of one answer.")
    max_memory: Size | None = Field(None, description="Most memory of a live run.")
    rate: str | None = Field(
        None,
        pattern=f"^{RATE.pattern}$",
        description="Requests per key, as in 600/minute.",
    )
    max_asset_rows: int | None = Field(None, ge=1, le=MAX_COUNT, description="Most rows of the asset.")


class CheckYaml(Mapped):
    """A query that must give no rows."""

    sql: str = Field(
        description="A SELECT over `asset`, the new rows, or over tables of the warehouse, not both."
    )
    severity: Literal["error", "warn"] = Field(
        "error", description="error: nothing is published. warn: it shows in Dagster, no more."
    )
    description: str | None = Field(None, description="What it means when rows are found.")


class VersionYaml(Mapped):
    """One version: the query is in vN.sql beside this file."""

    description: str | None = Field(None, description="What is special to this version.")
    variables: dict[str, VariableYaml] = Field(
        {}, description="By variable; those without a word need no entry."
    )
    freshness: Duration | None = Field(None, description="The promise: an asset older than this is stale.")
    cache: DurationOrZero | None = Field(
        None, description="How long a live result may be used again. Default: freshness."
    )
    stale_while_revalidate: Duration | None = Field(
        None,
        description="For so long past freshness or cache what there is answers at once, while one live run"
        " makes what the next callers get. Default: callers wait for the live run.",
    )
    live_when: list[Literal["missing", "stale", "failed", "breached"]] | None = Field(
        None, description="When to run live instead. Default: all four. []: never, 503 instead."
    )
    materialize: MaterializeYaml | None = Field(None, description="Compute ahead. Default: live only.")
    contract: ContractYaml | None = Field(None, description="What rows must satisfy to be published.")
    limits: LimitsYaml = Field(LimitsYaml(), description="What one request may cost.")
    deprecated: Date | None = Field(None, description="From this UTC date callers are told to move on.")
    sunset: Date | None = Field(None, description="From this UTC date it answers 410.")
    public: bool = Field(False, description="Shared caches may keep its answers.")
    clock: Literal["as_of"] | None = Field(
        None, description="as_of: now() and today() mean the asset's moment; live, the request's."
    )
    insight: NotServed = Field(None, description="Not served yet: write vN.sql.")
    checks: dict[str, CheckYaml] = Field(
        {}, description="By name: queries that must give no rows before new ones are published."
    )


class EndpointYaml(Mapped):
    """endpoint.yaml: one endpoint and its versions."""

    description: str | None = Field(None, description="What it answers, for callers.")
    owner: str | None = Field(None, description="Whom to ask, and to alert.")
    tags: list[str] = Field([], description="Labels.")
    alerts: list[RouteName] | None = Field(
        None,
        description="Names in ENDPOINTS_ALERTS that its alerts go to. Default: the URLs without one.",
    )
    current: int = Field(
        ge=1, description="The version of callers who name none; rolling back is changing this line."
    )
    versions: dict[str, VersionYaml] = Field(
        min_length=1, description="By number, 1 and up. Numbers are never reused."
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of endpoint.yaml: `# yaml-language-server: $schema=../endpoint.schema.json`."""
    schema = document_schema(EndpointYaml, SCHEMA_ID)
    versions = schema["properties"]["versions"]
    versions["patternProperties"] = {"^[1-9][0-9]{0,8}$": versions.pop("additionalProperties")}
    versions["additionalProperties"] = False
    return schema


def document_schema(model: type[Mapped], schema_id: str) -> dict[str, Any]:
    """The JSON Schema of a kind of file."""
    schema = _tidy(model.model_json_schema())
    for definition in schema["$defs"].values():
        if not definition.get("required"):  # an empty mapping may be written as nothing at all: null
            definition["type"] = ["object", "null"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": schema_id, **schema}


def _tidy(schema: Any) -> Any:
    """Without what tells people nothing: titles, and defaults that are null or whole mappings."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("default", {}), dict | None):
        schema = {key: value for key, value in schema.items() if key != "default"}
    names = {"properties", "$defs"}  # their keys are people's words, not the schema's
    return {
        key: {name: _tidy(inner) for name, inner in value.items()} if key in names else _tidy(value)
        for key, value in schema.items()
        if key != "title"
    }
