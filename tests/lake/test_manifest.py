from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.errors import Corrupt
from endpoints.lake.manifest import (
    BODY_BYTES,
    CheckResult,
    FileEntry,
    Manifest,
    PartitionEntry,
    PartitionFailure,
    Server,
    Tombstone,
    decode,
    encode,
    encode_tombstone,
    segment_names,
)
from endpoints.types import Column, parse_type

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
WORDS = st.text(max_size=20)
COLUMN = st.builds(
    Column,
    st.text(min_size=1, max_size=10),
    st.sampled_from(["UInt64", "Array(String)", "DateTime64(3, 'Europe/Berlin')"]).map(parse_type),
)
FILES = st.builds(
    FileEntry,
    st.sampled_from(["data/a/b.parquet", "data/c.parquet"]),
    st.integers(0, 2**53),
    st.integers(0, 2**53),
    WORDS,
)
ENTRIES = st.builds(
    PartitionEntry,
    files=st.lists(FILES, max_size=3).map(tuple),
    columns=st.lists(COLUMN, max_size=3).map(tuple),
    as_of=TIMES,
    fingerprint=WORDS,
    run_id=WORDS,
    attempt_id=WORDS,
    rows=st.integers(0, 2**53),
    bytes=st.integers(0, 2**53),
    snapshot=st.integers(0, 2**53),
    source_max=st.none() | TIMES,
    checks=st.lists(st.builds(CheckResult, WORDS, st.booleans(), WORDS), max_size=2).map(tuple),
)
FAILURES = st.builds(
    PartitionFailure,
    st.sampled_from(["failed", "breached"]),
    *(WORDS, WORDS, WORDS, TIMES, WORDS),
    unservable=st.booleans(),
)
MANIFESTS = st.builds(
    Manifest,
    number=st.integers(1, 10**18),
    endpoint=WORDS,
    version=st.integers(1, 1000),
    attempt_id=WORDS,
    run_id=WORDS,
    created_at=TIMES,
    outcome=st.sampled_from(["published", "failed", "breached", "superseded"]),
    fingerprint=WORDS,
    server=st.builds(Server, WORDS, WORDS, st.dictionaries(WORDS, WORDS, max_size=2)),
    partitions=st.dictionaries(WORDS, ENTRIES, max_size=4),
    failures=st.dictionaries(WORDS, FAILURES, max_size=3),
    held=st.booleans(),
)


@given(MANIFESTS)
def test_a_manifest_comes_back_as_it_was(manifest: Manifest) -> None:
    encoded = encode(manifest)
    assert decode(encoded.body, "m", encoded.segments.__getitem__) == manifest


def _large(entry, count: int) -> Manifest:
    day = datetime(2000, 1, 1, tzinfo=UTC)
    keys = [f"{day + timedelta(hours=h):%Y-%m-%d-%H:%M}" for h in range(count)]
    partitions = {key: entry(h, attempt_id=f"20260101T000000Z-{h:016}") for h, key in enumerate(keys)}
    return Manifest(1, "usage", 1, "a", "r", day, "published", "f1", partitions=partitions)


def test_ten_thousand_partitions_fit_a_small_body(entry) -> None:
    manifest = _large(entry, 10_000)
    encoded = encode(manifest)
    assert len(encoded.body) <= BODY_BYTES
    assert segment_names(encoded.body) == tuple(encoded.segments)
    assert decode(encoded.body, "m", encoded.segments.__getitem__) == manifest


@pytest.mark.parametrize("key", ["2000-06-01-00:00", "1999-01-01-00:00", "2031-01-01-00:00"])
def test_one_new_partition_rewrites_one_or_two_segments(entry, key: str) -> None:
    manifest = _large(entry, 10_000)
    changed = replace(manifest, partitions={**manifest.partitions, key: entry(1, attempt_id="new")})
    before, after = encode(manifest).segments, encode(changed).segments
    assert 1 <= len(after.keys() - before.keys()) <= 2


def test_a_segment_of_other_bytes_is_corrupt(entry) -> None:
    encoded = encode(_large(entry, 300))
    with pytest.raises(Corrupt, match="segment"):
        decode(encoded.body, "m", lambda name: encoded.segments[name].replace(b"f1", b"f2"))


def test_a_tombstone_names_the_floor() -> None:
    assert decode(encode_tombstone(17), "m", {}.__getitem__) == Tombstone(17)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 2}, "format 2"),
        ({"created_at": "2026-01-01T00:00:00"}, "no zone"),
        ({"partitions": None}, "not a manifest"),
        ({"columns": [[["n", "Nonsense("]]]}, "not a manifest"),
        ({"number": "x"}, "not a manifest"),
    ],
)
def test_a_body_that_is_wrong_is_corrupt_and_says_where(entry, change: dict, why: str) -> None:
    body = json.loads(encode(_large(entry, 2)).body)
    with pytest.raises(Corrupt, match=f"^here: .*{why}"):
        decode(json.dumps({**body, **change}).encode(), "here", {}.__getitem__)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b"\xff"])
def test_a_body_that_is_no_manifest_at_all_is_corrupt(body: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(body, "m", {}.__getitem__)


@pytest.mark.parametrize("path", ["/etc/passwd", "data/../../../etc/passwd", "other/x.parquet"])
def test_a_file_outside_the_version_is_corrupt(entry, path: str) -> None:
    manifest = _large(lambda *_, **changes: entry(files=(FileEntry(path, 1, 1, "x"),)), 1)
    with pytest.raises(Corrupt, match="outside"):
        decode(encode(manifest).body, "m", {}.__getitem__)
