"""What every command starts from: the settings, the definitions, and the versions that are meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from endpoints.definition import Definitions, Version
    from endpoints.settings import Settings

one_version = click.argument("target", metavar="NAME[@V]")
some_versions = click.argument("targets", metavar="[NAME[@V]]...", nargs=-1)


def read_settings() -> Settings:
    """The project's settings; SettingsError where one is wrong."""
    from endpoints.settings import load_settings

    return load_settings()


def read_definitions(settings: Settings) -> Definitions:
    """The project's definitions, the broken ones beside the good ones."""
    from endpoints.definition import load_project

    if not settings.defs.is_dir():
        raise click.UsageError(
            f"There is no folder {settings.defs}. Begin with `endpoints new NAME`, or set ENDPOINTS_DEFS."
        )
    return load_project(settings)


def choose(definitions: Definitions, targets: Sequence[str]) -> list[Version]:
    """The versions that the targets name, each once; every version where none is named."""
    if not targets:
        return list(definitions.versions)
    return list({version.key: version for version in map(definitions.version, targets)}.values())
