"""moto's S3 over HTTP; an object is created only if absent in one step, as in S3: `s3_server.py PORT`.

moto alone looks whether the object is there, and then writes it: of many creators now and then two win.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_moto = DomainDispatcherApplication(create_backend_app)
_creating = threading.Lock()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] != "PUT":
        return _moto(environ, start_response)  # type: ignore[no-any-return]
    with _creating:
        return _moto(environ, start_response)  # type: ignore[no-any-return]


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True, request_handler=MotoRequestHandler)
