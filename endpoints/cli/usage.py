"""`endpoints usage`: who runs what, how fast, and where answers come from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from endpoints.cli.output import answers, as_json, moment, print_json, print_table
from endpoints.cli.project import read_definitions, read_settings

if TYPE_CHECKING:
    import polars as pl

_BARS = "▁▂▃▄▅▆▇█"
_STEPS = {"hour": (timedelta(hours=1), "%Y-%m-%dT%H:00:00Z"), "day": (timedelta(days=1), "%Y-%m-%d")}
_HEADINGS = ("requests", "errors", "p50", "p95", "p99", "rows", "bytes", "cached", "from asset")


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    from endpoints.usage import parse_moment

    try:
        return None if text is None else parse_moment(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("name", required=False)
@click.option(
    "--from", "since", metavar="DATE", callback=_moment, help="[default: seven days before the end]"
)
@click.option("--to", "until", metavar="DATE", callback=_moment, help="[default: now]")
@click.option(
    "--by", type=click.Choice(["hour", "day", "version", "key", "source"]), default="day", show_default=True
)
@as_json
def usage(name: str | None, since: datetime | None, until: datetime | None, by: Any, as_json: bool) -> None:
    """Show who runs what, how fast, and where answers come from.

    Runs show up here at most a few seconds after they were answered.

    \b
    endpoints usage
    endpoints usage customer_usage --by key
    endpoints usage customer_usage --from 2026-01-01 --to 2026-02-01 --json
    """
    from endpoints.lake.publish import Lake
    from endpoints.usage import DAYS, check_span, read, report, totals

    settings = read_settings()
    until = until or datetime.now(UTC)
    since = since or until - timedelta(days=DAYS)
    try:
        check_span(since, until)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from") from None
    endpoint = read_definitions(settings).version(name).endpoint if name else None
    runs = read(Lake.open(settings, probe=False).store, since, until, endpoint=endpoint)
    if endpoint is None:
        _print_all(runs, since, until, as_json)
        return
    rows, whole = report(runs, by), totals(runs)
    if as_json:
        span = {"name": endpoint, "from": moment(since), "to": moment(until), "by": by}
        print_json({**span, "totals": whole, "usage": rows})
        return
    print_table((by, *_HEADINGS), ((str(row[by]), *_cells(row)) for row in [*rows, {by: "all", **whole}]))
    if by in _STEPS:
        answers().print(f"requests by {by}  {sparkline(_over_time(rows, by, since, until))}")


def sparkline(counts: list[int]) -> str:
    """A bar for each number, the highest as high as can be; a dot for none."""
    most = max(counts, default=0)
    return "".join(_BARS[(n * len(_BARS) - 1) // most] if n else "·" for n in counts)


def _over_time(rows: list[dict[str, Any]], by: str, since: datetime, until: datetime) -> list[int]:
    """The requests of every hour or day of the span, those without any too."""
    step, form = _STEPS[by]
    counts = {row[by]: row["requests"] for row in rows}
    at = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if by == "day":
        at = at.replace(hour=0)
    found = []
    while at < until:
        found.append(counts.get(at.strftime(form), 0))
        at += step
    return found


def _print_all(runs: pl.DataFrame, since: datetime, until: datetime, as_json: bool) -> None:
    """A line for each endpoint that was run, the busiest first."""
    from endpoints.usage import report, totals

    found = [(str(key), runs_of) for (key,), runs_of in runs.group_by("endpoint") if key]
    lines = [({"endpoint": key, **totals(these)}, these) for key, these in found]
    lines.sort(key=lambda line: (-line[0]["requests"], line[0]["endpoint"]))
    if as_json:
        print_json([row for row, _ in lines])
        return
    print_table(
        ("endpoint", *_HEADINGS, "by day"),
        (
            (row["endpoint"], *_cells(row), sparkline(_over_time(report(these, "day"), "day", since, until)))
            for row, these in lines
        ),
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    times = (_milliseconds(row[name]) for name in ("p50_ms", "p95_ms", "p99_ms"))
    shares = (
        f"{row[name]:.0%}" if row[name] is not None else "–" for name in ("cached_share", "asset_share")
    )
    counts = (f"{row[name]:,}" for name in ("rows", "bytes"))
    return (f"{row['requests']:,}", f"{row['errors']:,}", *times, *counts, *shares)


def _milliseconds(value: float | None) -> str:
    """Fewer places the longer it took: a known answer takes hundredths."""
    if value is None:
        return "–"
    return f"{value:,.{0 if value >= 100 else 1 if value >= 1 else 2}f} ms"
