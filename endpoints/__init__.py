"""What both planes share: definitions, plans, the warehouse, the lake. Imports neither dagster nor fastapi."""
