"""ClickHouse, read-only, behind one protocol: a server (native protocol) or chDB over a folder of files.

Nothing heavy is imported here: the worker processes of embedded ClickHouse start through this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from endpoints.settings import Settings
    from endpoints.warehouse.protocol import Warehouse


def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse that `ENDPOINTS_CLICKHOUSE_URL` names. Connects at first use, not here; close it."""
    if settings.clickhouse_url.startswith("chdb://"):
        from endpoints.settings import url_folder
        from endpoints.warehouse.embedded import EmbeddedWarehouse

        folder = url_folder(settings.clickhouse_url)
        assert folder is not None  # settings have checked the URL
        return EmbeddedWarehouse(folder, workers=settings.embedded_workers)

    from endpoints.warehouse.native import NativeWarehouse

    return NativeWarehouse(settings.clickhouse_url)
