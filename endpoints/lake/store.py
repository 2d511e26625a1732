"""The object store: the only state that the two planes share.

A thin layer over obstore with the few operations that the lake needs, the same on a disk and on S3. All of it
is synchronous and safe to call from many threads.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, S3Store

from endpoints.errors import StoreUnavailable, StoreUnsafe
from endpoints.scratch import Scratch
from endpoints.settings import Settings, url_folder

UPLOAD_CHUNK_BYTES = 8 * 2**20
UPLOADS_AT_ONCE = 4
DOWNLOAD_CHUNK_BYTES = 4 * 2**20
STAGING_MARK = "#"

# A store that hangs is noticed in seconds; a large file on a slow line may take its time.
_CLIENT: Any = {
    "connect_timeout": timedelta(seconds=3),
    "read_timeout": timedelta(seconds=10),
    "timeout": timedelta(minutes=10),
}
_RETRY: Any = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
_NO_RETRY: Any = {**_RETRY, "max_retries": 0}


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it. `tag` changes whenever its content does."""

    key: str
    size: int
    modified: datetime
    tag: str


class Store:
    """Objects under one `file://` or `s3://` URL. Missing objects are None; trouble is StoreUnavailable.

    `patience`: how long a request to S3 may take, which is not tried again then.
    """

    def __init__(
        self, url: str, aws: Mapping[str, str] | None = None, *, patience: timedelta | None = None
    ) -> None:
        self.url = url
        self.root = url_folder(url)
        self._raw = _local(self.root) if self.root else _s3(url, os.environ if aws is None else aws, patience)

    @classmethod
    def open(cls, url: str, settings: Settings, *, patience: timedelta | None = None) -> Store:
        """The store at a URL of the settings, with their credentials."""
        aws = {name: value.get_secret_value() for name, value in settings.aws.items()}
        return cls(url, aws, patience=patience)

    @property
    def shared(self) -> bool:
        """Whether other machines reach it: S3, not this machine's disk."""
        return self.root is None

    def require_root(self) -> None:
        """StoreUnavailable where a disk's folder is gone: that says nothing of what is in it."""
        if self.root is not None:
            with _trouble("looking for the folder"):
                self.root.stat()

    def get(self, key: str) -> bytes | None:
        """The whole object, for small ones."""
        with _trouble(f"reading {key}"):
            try:
                return bytes(obstore.get(self._raw, key).bytes())
            except FileNotFoundError:
                self.require_root()
                return None

    def put_new(self, key: str, body: bytes) -> bool:
        """Creates the object; False where one is there already, even if an own lost request made it."""
        with _trouble(f"creating {key}"):
            self.require_root()  # obstore would make the folder anew, beneath where a disk was mounted
            try:
                obstore.put(self._raw, key, body, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

    def put(self, key: str, body: bytes) -> None:
        """Creates or overwrites the object, whole or not at all."""
        with _trouble(f"writing {key}"):
            self.require_root()
            obstore.put(self._raw, key, body, use_multipart=False)

    def delete(self, key: str) -> None:
        """Removes the object; nothing happens where there is none."""
        with _trouble(f"deleting {key}"):
            try:
                obstore.delete(self._raw, key)
            except FileNotFoundError:
                return

    def list(self, prefix: str, after: str | None = None) -> Iterator[Listed]:
        """The objects below the folder `prefix`, with keys past `after`; sorted by key only on S3."""
        with _trouble(f"listing {prefix}"):
            self.require_root()
            for page in obstore.list(self._raw, prefix, offset=after):
                for meta in page:
                    tag = meta["e_tag"] or f"{meta['last_modified'].isoformat()}-{meta['size']}"
                    yield Listed(meta["path"], meta["size"], meta["last_modified"], tag)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The names of the folders directly below `prefix`, sorted."""
        with _trouble(f"listing {prefix}"):
            self.require_root()
            found = obstore.list_with_delimiter(self._raw, prefix)["common_prefixes"]
        return tuple(sorted(path.rstrip("/").rpartition("/")[2] for path in found))

    def chunks(self, key: str) -> Iterator[bytes] | None:
        """The object in pieces, for large ones."""
        with _trouble(f"reading {key}"):
            try:
                found = obstore.get(self._raw, key)
            except FileNotFoundError:
                self.require_root()
                return None
        return _chunks(found, key)

    @contextmanager
    def staged(self, key: str) -> Iterator[Path]:
        """A local path to write a large object to; it appears under `key`, whole, when the block ends well.

        On a disk the staging file lies beside its target under a name that no listing shows (`NAME#…`), and
        is renamed; for S3 it is a temporary file, uploaded in parts. A killed writer leaves no object, only
        the staging file, which `sweep` removes, or the next upload.
        """
        with _trouble(f"writing {key}"):
            if self.root is not None:
                yield from self._staged_beside(self.root / key)
            else:
                yield from self._staged_apart(key)

    def _staged_beside(self, target: Path) -> Iterator[Path]:
        self.require_root()
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = target.with_name(f"{target.name}{STAGING_MARK}{secrets.randbits(32)}")
        try:
            yield staging
            staging.replace(target)
        finally:
            staging.unlink(missing_ok=True)

    def _staged_apart(self, key: str) -> Iterator[Path]:
        with closing(Scratch("upload")) as scratch:
            file = scratch.path / "file"
            yield file
            obstore.put(self._raw, key, file, chunk_size=UPLOAD_CHUNK_BYTES, max_concurrency=UPLOADS_AT_ONCE)

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """Removes staging files that killed local writers left, and empty folders; the number of files.

        obstore's own writes stage as `NAME#k` too, and its listings hide them: hence the walk over the disk.
        """
        if self.root is None:
            return 0
        swept = 0
        for path in sorted((self.root / prefix).rglob("*"), reverse=True):
            if not _older(path, older_than):
                continue
            if path.is_dir():
                _remove_if_empty(path)
            elif STAGING_MARK in path.name:
                path.unlink(missing_ok=True)
                swept += 1
        return swept

    def probe(self) -> None:
        """StoreUnsafe where the store ignores create-if-absent, on which publishing rests."""
        key = f"_probe/{secrets.token_hex(16)}"
        self.put_new(key, b"first")
        try:
            if self.put_new(key, b"second") or self.get(key) != b"first":
                raise StoreUnsafe(
                    f"{self.url} overwrites what was to be created only if absent, so that two publishers "
                    "could lose each other's work: use a store that honours If-None-Match on writes"
                )
        finally:
            self.delete(key)


def _local(root: Path) -> LocalStore:
    with _trouble(f"opening {root}"):
        return LocalStore(root, mkdir=True)


def _s3(url: str, aws: Mapping[str, str], patience: timedelta | None) -> S3Store:
    """obstore reads AWS_* from the environment; `aws` adds those of `.env`."""
    config: Any = {name.lower(): value for name, value in aws.items() if name in _S3_VARIABLES}
    endpoint = aws.get("AWS_ENDPOINT_URL_S3") or aws.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        config["aws_endpoint"] = endpoint
    limits = _CLIENT if patience is None else dict.fromkeys(_CLIENT, patience)
    client: Any = {**limits, "allow_http": endpoint.startswith("http://")}
    retry = _RETRY if patience is None else _NO_RETRY
    with _trouble(f"opening {url}"):
        return S3Store.from_url(url, config=config, client_options=client, retry_config=retry)


_S3_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_SKIP_SIGNATURE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    }
)


def _chunks(found: Any, key: str) -> Iterator[bytes]:
    with _trouble(f"reading {key}"):
        for chunk in found.stream(min_chunk_size=DOWNLOAD_CHUNK_BYTES):
            yield bytes(chunk)


def _older(path: Path, than: datetime) -> bool:
    try:
        return path.lstat().st_mtime < than.timestamp()
    except FileNotFoundError:
        return False


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


@contextmanager
def _trouble(doing: str) -> Iterator[None]:
    """Turns what obstore and the disk raise into StoreUnavailable. obstore's texts name no secrets."""
    try:
        yield
    except (BaseError, OSError) as error:
        why = str(error).partition("\n")[0]
        raise StoreUnavailable(f"{doing}: {why}") from error
