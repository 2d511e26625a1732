"""The operator's own signers: a JWKS (RFC 7517) at an https address, read by a thread and never by a request.

What was read last stays while the address does not answer. A token that names an unknown signer has the
thread look again, soon: keys are rotated. The request itself is refused; the next one may not be.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import orjson

from endpoints.tokens import MAX_TEXT, Signer, signer_of

log = logging.getLogger(__name__)

REFRESH_SECONDS = 300.0
AGAIN_SECONDS = 30.0  # after a failure, and at most this often for signers that are not known
FIRST_READ = 5.0
READ_SECONDS = 10.0
MAX_BYTES = 256 * 1024
MAX_KEYS = 100

Fetch = Callable[[str], bytes]


class Jwks:
    """The signers at one address, by `kid`."""

    def __init__(self, url: str, *, fetch: Fetch | None = None) -> None:
        self._url, self._fetch = url, fetch or fetch_https
        self._signers: Mapping[str, Signer] = {}
        self._stop, self._wanted, self._read_once = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="jwks", daemon=True)

    def start(self) -> None:
        """Read it, and again every five minutes. Waits a little for the first time."""
        self._thread.start()
        if not self._read_once.wait(FIRST_READ):
            log.warning("ENDPOINTS_JWKS_URL has not answered yet: starting without its signers")

    def stop(self) -> None:
        self._stop.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def get(self, kid: str) -> Signer | None:
        """The signer of that name, as far as it is known."""
        return self._signers.get(kid)

    def look_again(self) -> None:
        """A token named a signer that is not known: it may be new."""
        self._wanted.set()

    def refresh(self) -> bool:
        """Read the address once; False, and what is known stays, where that did not work."""
        try:
            self._signers = signers_in(self._fetch(self._url))
        except (OSError, ValueError) as error:
            log.warning("ENDPOINTS_JWKS_URL not read, its last signers stay: %s", error)
            return False
        self._read_once.set()
        return True

    def _follow(self) -> None:
        while not self._stop.is_set():
            self._wanted.clear()
            try:
                good = self.refresh()
            except Exception:  # the thread must outlive any surprise, or rotated keys are never seen
                log.exception("ENDPOINTS_JWKS_URL not read")
                good = False
            self._stop.wait(AGAIN_SECONDS)
            if good and not self._stop.is_set():
                self._wanted.wait(REFRESH_SECONDS - AGAIN_SECONDS)


def signers_in(body: bytes) -> dict[str, Signer]:
    """The signers of a JWKS document, by `kid`; what is none that we take is left out. ValueError."""
    document: Any = orjson.loads(body)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ValueError(f"it is no JWKS of at most {MAX_KEYS} keys")
    signers: dict[str, Signer] = {}
    for jwk in keys:
        kid = jwk.get("kid") if isinstance(jwk, dict) else None
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_TEXT:
            continue
        try:
            signers[kid] = signer_of(jwk)
        except ValueError as error:
            log.warning("a key of ENDPOINTS_JWKS_URL is left out: %s", error)
    return signers


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> NoReturn:
        raise OSError("it answers with a redirect")


def fetch_https(url: str) -> bytes:
    """The body at an https address, bounded in size and time. OSError, ValueError."""
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=ssl.create_default_context()), _NoRedirects
    )
    end = time.monotonic() + READ_SECONDS
    body = bytearray()
    with opener.open(url, timeout=FIRST_READ) as answer:
        while chunk := answer.read1(16 * 1024):
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES} bytes")
            if time.monotonic() > end:
                raise OSError("it is too slow")
    return bytes(body)
