"""A TCP proxy in front of a real server, which a test may stop, slow down and bring back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Literal

Mode = Literal["pass", "refuse", "stall"]


class Proxy:
    """Passes bytes on to 127.0.0.1:`target`. `refuse`: connections break at once, those that are open too.
    `stall`: they stay open, and nothing passes.
    """

    def __init__(self, target: int) -> None:
        self._target, self._open = target, set[socket.socket]()
        self._passing = threading.Event()
        self._passing.set()
        self._mode: Mode = "pass"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, mode: Mode) -> None:
        self._mode = mode
        (self._passing.clear if mode == "stall" else self._passing.set)()
        if mode == "refuse":
            for one in list(self._open):
                self._end(one)

    def close(self) -> None:
        self.become("refuse")
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                if self._mode == "refuse":
                    caller.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {caller, server}
                for source, sink in ((caller, server), (server, caller)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._passing.wait()
                sink.sendall(data)
        self._end(source)
        self._end(sink)

    def _end(self, one: socket.socket) -> None:
        self._open.discard(one)
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
