"""gzip and zstd, for answers that are large enough to gain by it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, Protocol

import zstandard

from serving.accept import preferred

Encoding = Literal["zstd", "gzip", "identity"]

LEAST_BYTES = 1024  # below that a compressed body is hardly smaller, and costs the time all the same
_ZSTD_LEVEL, _GZIP_LEVEL = 3, 5


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


_COMPRESSORS: Mapping[str, Callable[[], _Compressor]] = {
    "zstd": lambda: zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj(),
    "gzip": lambda: zlib.compressobj(_GZIP_LEVEL, wbits=31),
}


def choose_encoding(accept: str | None) -> Encoding:
    """The encoding that weighs most in `Accept-Encoding`; zstd before gzip, none where none is named."""
    if not accept:
        return "identity"
    offered: Mapping[str, Encoding] = {
        "zstd": "zstd",
        "gzip": "gzip",
        "x-gzip": "gzip",
        "identity": "identity",
    }
    return preferred(accept, offered) or "identity"


def compressed(parts: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """The parts, compressed as one."""
    if encoding == "identity":
        yield from parts
        return
    compressor = _COMPRESSORS[encoding]()
    for part in parts:
        if data := compressor.compress(part):
            yield data
    yield compressor.flush()
