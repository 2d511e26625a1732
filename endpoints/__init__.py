"""What both planes share. Imports neither dagster nor fastapi."""
