"""A project on disk for the tests of orchestration: sales in Parquet, endpoints over them, a file lake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml

from endpoints.definition import Definitions, Version, load_definitions
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from endpoints.warehouse import open_warehouse
from endpoints.warehouse.protocol import Warehouse

SALES_SQL = """
SELECT item, count() AS orders, sum(amount) AS total
FROM sales
WHERE shop = {shop:String}
GROUP BY item
ORDER BY item
"""
SALES = pl.DataFrame(
    {
        "shop": ["north", "north", "south", "north"],
        "item": ["tea", "tea", "tea", "jam"],
        "amount": [3, 4, 5, 6],
    },
    schema_overrides={"amount": pl.UInt32},
)


@dataclass(frozen=True)
class Project:
    """A project folder and what is in it."""

    folder: Path
    settings: Settings
    sales: pl.DataFrame

    @property
    def definitions(self) -> Definitions:
        return load_definitions(self.settings.defs)

    @property
    def lake(self) -> Lake:
        return Lake.open(self.settings, probe=False)

    def version(self, key: str) -> Version:
        return self.definitions.version(key)

    def define(self, name: str, sql: str = SALES_SQL, **version: object) -> Version:
        """Write an endpoint of one version; keys of the version are as in endpoint.yaml."""
        return self.define_versions(name, {1: (sql, version)})

    def define_versions(
        self, name: str, versions: dict[int, tuple[str, dict[str, object]]], **endpoint: object
    ) -> Version:
        """Write an endpoint; the version that is current."""
        folder = self.settings.defs / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, (sql, _) in versions.items():
            (folder / f"v{number}.sql").write_text(sql)
        about = {
            "description": f"About {name}.",
            "current": max(versions),
            "versions": {number: version or {} for number, (_, version) in versions.items()},
            **endpoint,
        }
        (folder / "endpoint.yaml").write_text(yaml.safe_dump(about))
        problems = self.definitions.broken.get(name, ())
        assert not problems, problems
        return self.version(name)

    def sell(self, rows: pl.DataFrame) -> None:
        """Replace the sales."""
        (self.folder / "data").mkdir(exist_ok=True)
        rows.write_parquet(self.folder / "data" / "sales.parquet")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with sales and no endpoints; the working directory is in it."""
    (tmp_path / ".env").touch()
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path, Settings(project=tmp_path, embedded_workers=1), SALES)
    made.settings.defs.mkdir()
    made.sell(SALES)
    return made


@pytest.fixture
def warehouse(project: Project) -> Iterator[Warehouse]:
    """Embedded ClickHouse over the project's data."""
    opened = open_warehouse(project.settings)
    yield opened
    opened.close()
