"""`endpoints.lock`: the fingerprints of released versions, which never change (design §3).

One line per version, sorted, so that two branches that each release something merge without a conflict. A
version that is gone keeps its line: its number is never used for something else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from endpoints.definition.model import Definitions, Version
from endpoints.errors import DefinitionError, Problem

LOCK_NAME: Final = "endpoints.lock"

_HEADER: Final = "# Released versions, by `endpoints lock`. They never change: add a version instead.\n"
_LINE: Final = re.compile(
    r"(?P<name>[a-zA-Z][a-zA-Z0-9_-]{0,127})@(?P<number>[1-9][0-9]{0,8})(?P<parts>(?: \w+=[0-9a-f]+)+)",
    re.ASCII,
)
_WORDS: Final = {
    "sql": "SQL",
    "clock": "clock",
    "variables": "variables (type, default, optional, bucket or pattern)",
    "contract": "contract",
    "partitions": "partition start",
}

Key = tuple[str, int]
Parts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lock:
    """What has been released: the fingerprints of each version's parts, by endpoint and number."""

    versions: Mapping[Key, Parts] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def next_number(self, name: str, definitions: Definitions) -> int:
        """The first version number of an endpoint that was never used."""
        endpoint = definitions.endpoints.get(name)
        numbers = list(endpoint.versions) if endpoint else []
        numbers += [number for other, number in self.versions if other == name]
        return max(numbers, default=0) + 1


def read_lock(folder: Path) -> Lock:
    """The lock of a folder of definitions; an empty one where nothing has been released."""
    path = folder / LOCK_NAME
    shown = f"{folder.name}/{LOCK_NAME}"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Lock()
    except (OSError, UnicodeDecodeError) as error:
        message = f"The lock cannot be read: {error}."
        return Lock({}, (Problem(shown, 1, "bad_lock", message, "Restore it from version control."),))
    versions: dict[Key, Parts] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            fix = "Restore it from version control; after a merge, keep the lines of both sides."
            problems.append(Problem(shown, number, "bad_lock", "The line names no version.", fix))
            continue
        key = (match["name"], int(match["number"]))
        parts = dict(part.split("=", 1) for part in match["parts"].split())
        if versions.setdefault(key, parts) != parts:
            message = f"{key[0]}@{key[1]} is locked twice, differently."
            problems.append(
                Problem(shown, number, "bad_lock", message, "Keep the line of what was released first.")
            )
    return Lock(versions, tuple(problems))


def lock_problems(definitions: Definitions, folder: Path) -> tuple[Problem, ...]:
    """Every locked version that is no longer what was released; every line that cannot be read."""
    return _problems(definitions, read_lock(folder), folder)


def lock(definitions: Definitions, folder: Path) -> tuple[str, ...]:
    """Lock every version that is not yet, and write the lock; the keys of those, `name@2`.

    DefinitionError, and nothing is written, where a locked version has changed.
    """
    locked = read_lock(folder)
    problems = _problems(definitions, locked, folder)
    if problems:
        raise DefinitionError(problems)
    fresh = {
        (version.endpoint, version.number): version.lock_parts
        for version in definitions.versions
        if (version.endpoint, version.number) not in locked.versions
    }
    if fresh:
        _write(folder / LOCK_NAME, {**locked.versions, **fresh})
    return tuple(f"{name}@{number}" for name, number in sorted(fresh))


def _problems(definitions: Definitions, locked: Lock, folder: Path) -> tuple[Problem, ...]:
    return (*locked.problems, *_changed(definitions, locked, folder))


def _changed(definitions: Definitions, locked: Lock, folder: Path) -> Iterator[Problem]:
    for version in definitions.versions:
        parts = locked.versions.get((version.endpoint, version.number))
        if parts is None:
            continue
        changed = [part for part, digest in version.lock_parts.items() if parts.get(part, digest) != digest]
        if changed:
            what = " and ".join(_WORDS[part] for part in changed)
            following = locked.next_number(version.endpoint, definitions)
            fix = f"Restore it, and put the change in a new version, {following}."
            message = f"{version.key} is released, but its {what} changed."
            file, line = _place(version, changed, folder)
            yield Problem(file, line, "locked_version_changed", message, fix)


def _place(version: Version, changed: list[str], folder: Path) -> tuple[str, int]:
    """The file and line to look at: the SQL's if only that changed."""
    base = f"{folder.name}/{version.endpoint}"
    return (
        (f"{base}/{version.sql_file.name}", 1)
        if changed == ["sql"]
        else (f"{base}/endpoint.yaml", version.line)
    )


def _write(path: Path, versions: Mapping[Key, Parts]) -> None:
    lines = [
        f"{name}@{number} {' '.join(f'{part}={digest}' for part, digest in parts.items())}\n"
        for (name, number), parts in sorted(versions.items())
    ]
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(_HEADER + "".join(lines), "utf-8")
    staged.replace(path)  # whole or not at all
