"""Real ClickHouse, embedded, for tests that ask it what a text means."""

from collections.abc import Iterator

import orjson
import pytest
from chdb.session import Session


class ClickHouse:
    """Runs SQL in this process. Results come whole, so a failed query is tried on a session of its own."""

    def __init__(self) -> None:
        self._session = Session()

    def rows(self, sql: str, **parameters: str) -> list[list[object]]:
        """The rows of a query; RuntimeError with ClickHouse's message where it fails."""
        text = self._session.query(sql, "JSONCompact", params=parameters).bytes()
        return list(orjson.loads(text)["data"])

    def error(self, sql: str) -> str:
        """What ClickHouse says of a query that it refuses to begin; the empty string if it runs."""
        try:
            self.rows(sql)
        except RuntimeError as error:
            return str(error)
        return ""

    def close(self) -> None:
        self._session.close()


@pytest.fixture(scope="module")
def clickhouse() -> Iterator[ClickHouse]:
    clickhouse = ClickHouse()
    yield clickhouse
    clickhouse.close()
