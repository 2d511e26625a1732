"""`endpoints lock`: say that what is there is released, and never changes."""

from __future__ import annotations

import click

from endpoints.cli.output import as_json, messages, print_json
from endpoints.cli.project import read_definitions, read_settings


@click.command()
@as_json
def lock(as_json: bool) -> None:
    """Freeze every version: callers rely on it from now on.

    Writes fingerprints of SQL, variables and contract into endpoints.lock, to be committed. From then on
    `validate` fails where a locked version has changed; a change is a new version. Freshness, schedule,
    limits, docs, deprecation and `current` may still change.

    \b
    endpoints lock
    git add endpoint_defs/endpoints.lock
    """
    from endpoints.definition.lock import LOCK_NAME
    from endpoints.definition.lock import lock as write

    settings = read_settings()
    added = write(read_definitions(settings), settings.defs)
    if as_json:
        print_json({"locked": list(added)})
        return
    what = ", ".join(added) if added else "nothing new"
    messages().print(f"{settings.defs / LOCK_NAME}: {what}", markup=False)
