"""The Dagster code location: every endpoint version is an asset."""
