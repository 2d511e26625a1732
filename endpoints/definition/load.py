"""A folder of definitions → Definitions. One bad endpoint never takes others down."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from endpoints.definition.assemble import YAML_NAME, read_endpoint
from endpoints.definition.model import Definitions, Endpoint
from endpoints.definition.sources import read_sources
from endpoints.errors import Problem
from endpoints.garbage import collection_paused
from endpoints.query.permitted import NOTHING_MORE, Allow
from endpoints.settings import Settings


def load_project(
    settings: Settings, previous: Definitions | None = None, *, only: Collection[str] | None = None
) -> Definitions:
    """The definitions of a project, with what its settings allow; else as `load_definitions`."""
    allow = Allow(frozenset(settings.allow_table_functions), frozenset(settings.allow_settings))
    return load_definitions(settings.defs, allow=allow, root=settings.project, previous=previous, only=only)


def load_definitions(
    folder: Path,
    *,
    allow: Allow = NOTHING_MORE,
    root: Path | None = None,
    previous: Definitions | None = None,
    only: Collection[str] | None = None,
) -> Definitions:
    """Every endpoint of `folder`, one folder each; or `only` those of these names.

    Never raises for what is in it: see `broken` and `problems`.

    Problems name files relative to `root` (default: the folder that `folder` is in). `previous`: what was
    loaded before; an endpoint that is broken now keeps its last good form from there.
    """
    with collection_paused():
        return _load(folder, allow, root, previous, only)


def _load(
    folder: Path,
    allow: Allow,
    root: Path | None,
    previous: Definitions | None,
    only: Collection[str] | None,
) -> Definitions:
    shown = _relative(folder, root or folder.resolve().parent)
    try:
        folders = sorted(_endpoint_folders(folder), key=lambda path: path.name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fix = "Make the folder, with one folder in it per endpoint, or set ENDPOINTS_DEFS."
        problem = Problem(shown, 1, "no_definitions", f"The folder cannot be read: {reason}.", fix)
        return _kept(Definitions({}, {}, (problem,)), previous)
    endpoints: dict[str, Endpoint] = {}
    broken: dict[str, tuple[Problem, ...]] = {}
    spellings: dict[str, list[str]] = {}
    named = [(_readable(path.name), path) for path in folders]
    for name, _ in named:
        spellings.setdefault(name.lower(), []).append(name)
    for name, path in named:
        if only is not None and name not in only:
            continue
        read = read_endpoint(path, f"{shown}/{name}", allow)
        others = [other for other in spellings[name.lower()] if other != name]
        problems = [] if isinstance(read, Endpoint) else list(read)
        if others:
            problems.append(_same_name(name, others, f"{shown}/{name}/{YAML_NAME}"))
        if problems:
            broken[name] = tuple(sorted(problems, key=lambda p: (p.file, p.line)))
        elif isinstance(read, Endpoint):
            endpoints[name] = read
    return _kept(Definitions(endpoints, broken, sources=read_sources(folder, shown)), previous)


def _kept(now: Definitions, previous: Definitions | None) -> Definitions:
    """What is loaded now, with the last good form of what is broken now."""
    if previous is None:
        return now
    names = previous.endpoints if now.general else [name for name in now.broken if name in previous.endpoints]
    return replace(now, endpoints={**now.endpoints, **{name: previous.endpoints[name] for name in names}})


def _endpoint_folders(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith((".", "__")):
            yield path


def _readable(name: str) -> str:
    """A folder's name as text that can be printed and sent: file systems take bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _relative(folder: Path, root: Path) -> str:
    """The folder as people write it in the project: `endpoint_defs`."""
    path = Path(os.path.relpath(folder.resolve(), root.resolve()))
    return folder.as_posix() if path.parts[:1] == ("..",) else path.as_posix()


def _same_name(name: str, others: list[str], file: str) -> Problem:
    message = (
        f"{name!r} and {', '.join(map(repr, others))} differ only in case, which URLs do not tell apart."
    )
    return Problem(file, 1, "duplicate_name", message, "Rename one of the folders.")
