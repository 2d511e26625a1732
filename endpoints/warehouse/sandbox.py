"""What a worker may touch, held by the kernel (Linux's Landlock), since ClickHouse alone does not hold it.

`readonly = 1` still allows `SELECT file('/etc/passwd')`, or `/proc/<parent>/environ` with its secrets. Inside
the sandbox a worker reads its tables' folder and the libraries it is made of, writes its scratch folder, and
opens no TCP connection. Where the kernel has no Landlock (before 5.13, macOS), the ban on such functions in
definitions is what remains.
"""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVILEGES: Final = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
# What each release of Landlock can forbid: all of it is.
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_TCP_RIGHTS: Final = 0b11  # bind, connect: from release 4

_SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/sys",
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
)
_DEVICES: Final = ("/dev/null", "/dev/urandom", "/dev/random")


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def enter(folder: Path, scratch: Path) -> bool:
    """Shut this process in, and all that it starts from now on. False where that cannot be."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    release = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if release < 1:
        return False
    rights = _FILE_RIGHTS[min(release, 4)]
    attributes = _Ruleset(rights, _TCP_RIGHTS if release >= 4 else 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes) if release >= 4 else 8)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    if ruleset < 0:
        return False
    try:
        for path in (folder, *linked(folder), *_libraries(), *map(Path, _SYSTEM)):
            _allow(libc, ruleset, path, _READ)
        for path in map(Path, _DEVICES):
            _allow(libc, ruleset, path, _READ | _WRITE_FILE)
        _allow(libc, ruleset, scratch, rights)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def linked(folder: Path) -> tuple[Path, ...]:
    """Where the symbolic links in a folder, and in the folders in it, lead to: data may lie elsewhere."""
    found = []
    for entry in os.scandir(folder):
        if entry.is_symlink():
            found.append(Path(entry.path).resolve())
        if entry.is_dir():
            found += [Path(inner.path).resolve() for inner in os.scandir(entry.path) if inner.is_symlink()]
    return tuple(sorted(found))


def _libraries() -> Iterable[Path]:
    """Python, its packages, and this package: not the project around it, whose `.env` holds secrets."""
    paths = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), str(Path(__file__).parent.parent)}
    return [Path(path) for path in paths] + [Path(path) for path in sys.path if path.endswith("-packages")]


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Allow `rights` on a file, or on a folder and all in it. A path that is not there needs no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _Beneath(rights if path.is_dir() else rights & _FILE, descriptor)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)
