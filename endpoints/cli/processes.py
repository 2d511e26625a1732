"""Child processes that end when we do.

Each child leads a process group of its own: Ctrl-C in the terminal reaches only us, and we end every group,
whatever its members started. Groups get SIGTERM and some seconds, then SIGKILL.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Self

import click

GRACE = 15.0  # seconds a group has between SIGTERM and SIGKILL
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def python(*arguments: str) -> list[str]:
    """A command line for this interpreter, and so for this environment."""
    return [sys.executable, *arguments]


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that leads a group of its own; `end` ends the group."""
    return subprocess.Popen(  # noqa: S603  our own commands, no shell
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End these processes and all that they started."""
    for process in processes:
        _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in processes:
        while _signal_group(process.pid, 0) and time.monotonic() < deadline:
            process.poll()  # takes its status, so that it leaves the group
            time.sleep(0.05)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: int) -> bool:
    """Signal every process of a group; False where none is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


class Interruptible:
    """Within it, a closed terminal or a supervisor asks for the same as Ctrl-C, by KeyboardInterrupt."""

    _handlers: Mapping[int, Any]

    def __enter__(self) -> Self:
        self._handlers = {number: signal.getsignal(number) for number in _ENDING}
        for number in _ENDING:
            # nohup has us outlive the terminal. A script's `&` starts us with SIGINT ignored too, but whoever
            # sends that means it.
            if number != signal.SIGHUP or self._handlers[number] is not signal.SIG_IGN:
                signal.signal(number, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """From here on: an impatient second Ctrl-C must leave no orphans."""
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)


class Processes(Interruptible):
    """Servers that run together; all of them have ended when the `with` block is left, by whatever way."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ignore()
        end(list(self._running.values()))
        super().__exit__(kind, error, trace)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path | None = None,
    ) -> None:
        """Start a server in `folder`; what it says goes to `log`, or where we say things."""
        if log is None:
            self._running[name] = spawn(command, environment=environment, folder=folder)
            return
        self._logs[name] = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._running[name] = spawn(
                command, environment=environment, folder=folder, stdout=output, stderr=output
            )

    def check(self) -> None:
        """Raise where one has ended that should be running, with the last it said."""
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                raise click.ClickException(f"{name} ended with status {status}.{self._last_words(name)}")

    def wait(self) -> None:
        """Stay until one ends by itself (which is an error), or until we are told to end."""
        while True:
            self.check()
            time.sleep(0.2)

    def wait_for(self, name: str, ready: Callable[[], bool], seconds: float = 120) -> None:
        """Stay until `ready`; an error where a process ends first or time runs out."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                late = f"{name} did not answer within {seconds:.0f} s."
                raise click.ClickException(late + self._last_words(name))
            time.sleep(0.1)

    def _last_words(self, name: str) -> str:
        if name not in self._logs:
            return ""
        lines = self._logs[name].read_text(errors="replace").splitlines()[-15:]
        return "\n".join([f" The end of {self._logs[name]}:", *lines])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def choose_port(host: str, asked: int | None, preferred: int, option: str) -> int:
    """The port asked for, or the preferred one, or the next free one after it."""
    if asked is not None:
        if not _is_free(host, asked):
            raise click.UsageError(f"Port {asked} on {host} is in use. Choose another one with {option}.")
        return asked
    for port in range(preferred, min(preferred + 50, 65536)):
        if _is_free(host, port):
            return port
    raise click.UsageError(
        f"Port {preferred} on {host} and those after it are in use. Say one with {option}."
    )


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError:
        return False
    return True
