"""One typed settings class: `ENDPOINTS_*` variables, or a `.env` in the project folder.

A wrong value ends the start with one message that names the variable and the fix. No secret shows in a repr.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from endpoints.errors import SettingsError
from endpoints.units import RATE, parse_duration, parse_size

PREFIX = "ENDPOINTS_"
_MARKERS = (".env", "pyproject.toml")
_NOT_VARIABLES = frozenset({"project", "aws"})
_WITH_CREDENTIALS = frozenset({"clickhouse_url", "redis_url", "dagster_url"})

log = logging.getLogger(__name__)


def _split(value: object) -> object:
    """A comma-separated variable as a tuple of its non-empty parts."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _rate(value: str) -> str:
    if not RATE.fullmatch(value):
        raise ValueError("is no rate: write a number per second, minute, hour or day, as in 600/minute")
    return value


ROUTE = re.compile(r"(?:(?P<name>[a-z][a-z0-9_-]{0,63})=)?(?P<url>[A-Za-z][A-Za-z0-9+.-]*://\S+)")
"""One entry of ENDPOINTS_ALERTS: an Apprise URL, with a name or without."""
# Commas within a URL (two recipients) part nothing: the next entry begins with a scheme.
_NEXT_ROUTE = re.compile(r"\s*,\s*(?=(?:[a-z][a-z0-9_-]*=)?[A-Za-z][A-Za-z0-9+.-]*://)")


def _split_routes(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part for part in _NEXT_ROUTE.split(value.strip().strip(",").strip()) if part)


AlertUrls = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_routes)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Duration = Annotated[timedelta, NoDecode, BeforeValidator(_duration), Field(ge=timedelta(0))]
Size = Annotated[int, NoDecode, BeforeValidator(_size), Field(ge=0)]
Rate = Annotated[str, AfterValidator(_rate)]


class Settings(BaseSettings):
    """Everything that can be set. `load_settings` is the way to get one; tests may name fields directly.

    Paths, and the paths in `chdb://` and `file://` URLs, are absolute once the object exists.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, validate_default=True
    )

    project: Path = Field(description="The project folder; relative paths start here. Found, not set.")
    aws: Mapping[str, SecretStr] = Field(
        default_factory=lambda: _aws(os.environ),
        repr=False,
        description="The AWS_* variables of the environment and `.env`.",
    )

    defs: Path = Field(Path("endpoint_defs"), description="Folder of definitions.")
    allow_table_functions: CommaSeparated = Field(
        (), description="Table functions that queries may use beyond the built-in list."
    )
    allow_settings: CommaSeparated = Field(
        (), description="ClickHouse settings that queries may carry beyond the built-in list."
    )
    clickhouse_url: str = Field(
        "chdb://./data",
        description="`chdb://DIR`: embedded ClickHouse over the Parquet and CSV files of a folder. "
        "`clickhouse://user:password@host:9000/db` (`clickhouses://` for TLS): a server or cluster.",
    )
    lake_url: str = Field(
        "file://./lake",
        description="Where assets are published: `s3://bucket/prefix` (credentials in the AWS variables, "
        "`AWS_ENDPOINT_URL` for other stores) or `file://DIR`.",
    )
    lake_collection: str = Field(
        "endpoints_lake",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$",
        description="The ClickHouse server's named collection that leads to the lake: where it has one, it "
        "writes assets by itself. `none`: rows stream through.",
    )
    keys_url: str | None = Field(None, description="Where keys are kept, if not in the lake.")
    secret: SecretStr | None = Field(
        None, description="Signs key records: 32 characters or more. Required where keys are on S3."
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address that serving listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that serving listens on.")
    redis_url: str | None = Field(
        None, description="Shared rate limits, result cache and single-flight across workers and replicas."
    )
    token_audience: str = Field(
        "endpoints", min_length=1, max_length=256, description="`aud` of the tokens that are taken."
    )
    token_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="Signs tokens of keys made with `--signing HS256`: 32 characters or more.",
    )
    jwks_url: str | None = Field(
        None, description="https address of a JWKS whose signers' tokens are taken too, within `jwks_key`."
    )
    jwks_key: str | None = Field(
        None, pattern=r"^[0-9a-f]{16}$", description="Id of the key whose rights bound those tokens."
    )
    cors_origins: CommaSeparated = Field(
        (), description="Origins whose browsers may call, comma separated. `*` is refused."
    )
    rate: Rate = Field("1200/minute", description="Requests of a key, where the key names no rate.")
    subject_rate: Rate = Field("300/minute", description="Requests of one subject of a key's tokens.")
    live_rate: Rate = Field("240/minute", description="ClickHouse queries that a key's requests may start.")
    refresh_rate: Rate = Field(
        "60/minute", description="Requests of a key with `refresh=force` or `refresh=direct`."
    )
    workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes that serve; without Redis rates are divided by it. `endpoints serve --workers`"
        " sets it.",
    )
    metrics_dir: Path | None = Field(
        None,
        description="Folder in which the workers of one address tell each other what `/metrics` needs.",
    )
    log: Literal["text", "json"] = Field(
        "text", description="Form of serving's log lines. `json` has one for every request too."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level of serving's log lines."
    )
    watch: bool = Field(
        False, description="Read definitions again when a file changes. `endpoints serve --reload` sets it."
    )
    alerts: AlertUrls = Field(
        (), repr=False, description="Apprise URLs to alert, comma separated; `name=URL` for chosen endpoints."
    )
    alerts_quiet: Duration = Field(
        timedelta(hours=1),
        description="How long a thing that was alerted of, and comes back, is not alerted of again.",
    )

    project_name: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="The project in `/api/projects/{project}/endpoints/…`.",
    )
    dagster_url: str = Field(
        "http://127.0.0.1:3000", description="Where Dagster's webserver is, for links to runs."
    )
    live_concurrency: int = Field(
        8,
        ge=1,
        description="Live runs at once, per process; embedded, at most `ENDPOINTS_EMBEDDED_WORKERS`.",
    )
    live_queue: int = Field(64, ge=0, description="Live runs that may wait for a place, per process.")
    live_wait: Duration = Field(
        timedelta(seconds=2),
        description="How long a caller waits for a live run where an older asset could answer.",
    )
    live_cache_bytes: Size = Field(
        64 * 2**20, description="Memory for live results that may be reused, per process."
    )
    result_cache_bytes: Size = Field(
        64 * 2**20, description="Memory for answers as they were sent, per process; 0: none are kept."
    )
    live_memory_bytes: Size = Field(
        32 * 2**20, description="A live result larger than this goes to a temporary file until it is sent."
    )
    live_spool_bytes: Size = Field(
        2**30, description="A live result larger than this is refused: `query_over_limit`."
    )
    asset_memory_bytes: Size = Field(
        256 * 2**20, description="Memory for decoded rows of assets, per process."
    )
    embedded_workers: int = Field(2, ge=1, description="Processes of embedded ClickHouse, per process.")
    cache_dir: Path = Field(
        Path(".cache"), description="Folder of local copies of S3 files and of spilled results."
    )
    cache_bytes: Size = Field(
        10 * 2**30, description="How much of the lake may be copied to `cache_dir`, as in `10GiB`."
    )
    max_asset_rows: int = Field(
        100_000_000,
        ge=1,
        description="Most rows of an asset, where `limits.max_asset_rows` of the version says nothing.",
    )
    parity_samples: int = Field(
        3,
        ge=0,
        le=100,
        description="Sets of values, at most, for which new assets are compared with live; 0: never.",
    )
    run_lease: Annotated[Duration, Field(ge=timedelta(seconds=1))] = Field(
        timedelta(seconds=60),
        description="A run that has shown no life in the lake for this long counts as killed.",
    )
    retention: Duration = Field(
        timedelta(hours=24),
        description="How long data is kept that no snapshot names: more than the longest run or cursor.",
    )
    keep_snapshots: int = Field(
        10, ge=1, description="Newest published snapshots of a version that collection never touches."
    )

    run_retention: Duration = Field(
        timedelta(days=30),
        description="How long Dagster's ended runs are kept, but for those that made what is there last.",
    )

    usage_retention: Duration = Field(
        timedelta(days=90), description="How long it is kept who ran what, and how fast."
    )
    usage_spill_bytes: Size = Field(
        256 * 2**20,
        description="How much of that may wait in `cache_dir` while the lake is away. More is dropped.",
    )

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            log.warning("%sSECRET is shorter than 32 characters: use `openssl rand -hex 32`", PREFIX)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if "*" in origin:
                raise ValueError("may not hold `*`: list the origins, as in https://app.example.com")
            if not re.fullmatch(r"https?://[^/?#@\s]+", origin):
                raise ValueError(f"holds {origin!r}, which is not an origin, as in https://app.example.com")
        return value

    @field_validator("alerts")
    @classmethod
    def _routes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, text in enumerate(value, 1):
            if not ROUTE.fullmatch(text):  # the value itself is a secret
                raise ValueError(f"has no URL as entry {number}: write slack://…, or growth=slack://…")
        return value

    @field_validator("clickhouse_url")
    @classmethod
    def _warehouse(cls, value: str) -> str:
        return _checked_url(value, folders=("chdb",), hosts=("clickhouse", "clickhouses"))

    @field_validator("lake_url", "keys_url")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value, folders=("file",), hosts=("s3",))

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value, hosts=("redis", "rediss"))

    @field_validator("jwks_url")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value, hosts=("https",))

    @field_validator("dagster_url")
    @classmethod
    def _web(cls, value: str) -> str:
        return _checked_url(value, hosts=("http", "https"))

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if (self.jwks_url is None) != (self.jwks_key is None):
            raise ValueError("ENDPOINTS_JWKS_URL and ENDPOINTS_JWKS_KEY go together: set both, or neither")
        return self

    @model_validator(mode="after")
    def _resolve(self) -> Settings:
        """Relative paths become absolute here, once; nothing later depends on the working directory."""
        project = self.project.expanduser().resolve()
        resolved: dict[str, Any] = {
            "project": project,
            "defs": project / self.defs.expanduser(),
            "cache_dir": project / self.cache_dir.expanduser(),
        }
        if self.metrics_dir is not None:
            resolved["metrics_dir"] = project / self.metrics_dir.expanduser()
        for name in ("clickhouse_url", "lake_url", "keys_url"):
            resolved[name] = _absolute(getattr(self, name), project)
        for name, value in resolved.items():
            object.__setattr__(self, name, value)
        return self

    @property
    def live_at_once(self) -> int:
        """Live runs that a process lets in: whoever waits, waits in its queue, not for a worker."""
        embedded = self.clickhouse_url.startswith("chdb://")
        return min(self.live_concurrency, self.embedded_workers) if embedded else self.live_concurrency

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, hide_password(value) if name in _WITH_CREDENTIALS and value else value


def load_settings(cwd: Path | None = None) -> Settings:
    """The settings of the project that `cwd` (default: the working directory) is in.

    The environment goes before `.env`. Raises SettingsError with one message for all that is wrong.
    """
    project = find_project(cwd or Path.cwd())
    file = project / ".env"
    written = {name.upper(): value for name, value in dotenv_values(file).items()} if file.is_file() else {}
    _warn_of_typos({**written, **os.environ})
    try:
        return Settings(project=project, aws=_aws({**written, **os.environ}), _env_file=file)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def find_project(cwd: Path) -> Path:
    """The nearest folder from `cwd` upwards that holds `.env` or `pyproject.toml`, else `cwd`."""
    start = cwd.resolve()
    for folder in (start, *start.parents):
        if any((folder / marker).is_file() for marker in _MARKERS):
            return folder
    return start


def variables() -> dict[str, str]:
    """Every variable and its one-line meaning, as `docs/settings.md` must list them."""
    fields = Settings.model_fields.items()
    return {
        f"{PREFIX}{name.upper()}": f.description or "" for name, f in fields if name not in _NOT_VARIABLES
    }


def url_folder(url: str) -> Path | None:
    """The folder of a resolved `file://` or `chdb://` URL; None where the URL names a server."""
    scheme, _, path = url.partition("://")
    return Path(path) if scheme in ("file", "chdb") else None


def hide_password(url: str) -> str:
    """A URL fit for logs: `clickhouse://me:***@host/db`."""
    parts = urlsplit(url)
    if parts.password is None and not parts.query:
        return url
    user, at, host = parts.netloc.rpartition("@")
    user = user.partition(":")[0] + ":***" if ":" in user else user
    return urlunsplit(parts._replace(netloc=user + at + host, query="***" if parts.query else ""))


def _checked_url(url: str, *, folders: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> str:
    """The URL, or a ValueError that names what it may be. Never repeats the value: it can hold a password."""
    scheme, separator, rest = url.partition("://")
    allowed = [*(f"{name}://DIR" for name in folders), *(f"{name}://…" for name in hosts)]
    if not separator or scheme not in (*folders, *hosts):
        raise ValueError(f"must begin with one of {', '.join(allowed)}")
    if scheme in folders:
        if not rest:
            raise ValueError(f"names no folder: write {scheme}://./DIR")
        return url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535, or a malformed host") from None
    if not host:
        raise ValueError(f"names no {'bucket' if scheme == 's3' else 'host'}: write {scheme}://NAME")
    if port == 0:
        raise ValueError("has port 0: write a number from 1 to 65535")
    return url


def _absolute(url: str | None, project: Path) -> str | None:
    folder = url_folder(url) if url else None
    if url is None or folder is None:
        return url
    return f"{url.partition('://')[0]}://{(project / folder.expanduser()).resolve()}"


def _explain(error: ValidationError) -> str:
    """One line per variable, without the value: it may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        why = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{PREFIX}{name.upper()}: {why}")
    return "\n".join(lines)


def _aws(environment: Mapping[str, str | None]) -> dict[str, SecretStr]:
    return {n: SecretStr(value) for n, value in environment.items() if n.startswith("AWS_") and value}


def _warn_of_typos(environment: Mapping[str, object]) -> None:
    known = variables()
    for name in environment:
        if name.startswith(PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1)
            log.warning("%s is not a setting%s", name, f": did you mean {near[0]}?" if near else "")
