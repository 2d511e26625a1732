"""Small folders of definitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from endpoints.definition import Definitions, Version, load_definitions

LEAST = "current: 1\nversions: {1: }\n"


class Project:
    """A folder of definitions that tests write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, name: str, yaml: str = LEAST, **sql: str) -> None:
        """One endpoint; `v1="SELECT …"` and so on are its queries, a SELECT of 1 if there is none."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        (home / "endpoint.yaml").write_text(yaml, "utf-8")
        for version, text in (sql or {"v1": "SELECT 1 AS one"}).items():
            (home / f"{version}.sql").write_text(text, "utf-8")

    def load(self) -> Definitions:
        """What is there, without a mistake in it."""
        definitions = load_definitions(self.folder)
        assert not definitions.problems, "\n".join(map(str, definitions.problems))
        return definitions

    def version(self, sql: str, keys: str = "") -> Version:
        """The only version of one endpoint: its query and its keys, `freshness: 1h, variables: {…}`."""
        self.write("usage", f"current: 1\nversions: {{1: {{{keys}}}}}\n", v1=sql)
        return self.load().version("usage")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "endpoint_defs")
