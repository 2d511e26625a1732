"""The FastAPI service: answers from the latest valid asset, or live from ClickHouse."""
