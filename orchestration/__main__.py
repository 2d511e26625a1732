"""`python -m orchestration dev --port 3000`: Dagster's own command, on the project's instance."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from endpoints.settings import find_project
from orchestration.home import WORKSPACE, prepare_home


def main(arguments: list[str]) -> None:
    """Become `dagster <arguments>`; ends only with it."""
    prepare_home(find_project(Path.cwd()))
    workspace = [] if {"-w", "-m", "-f"} & {*arguments} else ["-w", str(WORKSPACE)]
    command = [sys.executable, "-m", "dagster", *arguments, *workspace]
    os.execv(sys.executable, command)  # noqa: S606  our own command, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
