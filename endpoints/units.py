"""Durations, sizes and rates as people write them: `30s`, `7d`, `512MiB`, `100/minute`."""

from __future__ import annotations

import re
from datetime import timedelta

RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", re.ASCII)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b|b)?", re.ASCII | re.IGNORECASE)
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_duration(text: str) -> timedelta:
    """`90s`, `1.5h`, `30d` as a timedelta. ValueError with one sentence where it is none."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: write a number and one of ms, s, m, h, d, w, as in 90s or 1h"
        )
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any duration that can be kept") from None


def show_duration(value: timedelta) -> str:
    """The shortest exact form that `parse_duration` takes back, as `90s` or `2h`."""
    milliseconds = value // timedelta(milliseconds=1)
    for unit, size in (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def parse_size(text: str) -> int:
    """`1GiB`, `500MB`, `1024` as bytes. ValueError with one sentence where it is none."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a size: write bytes, or a number and one of KiB, MiB, GiB, TiB, as in 1GiB"
        )
    return int(float(match[1]) * _BYTES[(match[2] or "b").lower()])
