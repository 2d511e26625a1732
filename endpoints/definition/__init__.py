"""endpoint.yaml and vN.sql → Endpoint, Version: typed, checked, fingerprinted."""

from endpoints.definition.defaults import Default
from endpoints.definition.load import load_definitions, load_project
from endpoints.definition.model import (
    LIVE_REASONS,
    BrokenEndpoint,
    Check,
    ColumnContract,
    Contract,
    Definitions,
    Endpoint,
    Limits,
    Materialize,
    Partitions,
    UnknownEndpoint,
    Variable,
    Version,
)
from endpoints.definition.schema import json_schema
from endpoints.definition.sources import Source, Sources, sources_schema

__all__ = [
    "LIVE_REASONS",
    "BrokenEndpoint",
    "Check",
    "ColumnContract",
    "Contract",
    "Default",
    "Definitions",
    "Endpoint",
    "Limits",
    "Materialize",
    "Partitions",
    "Source",
    "Sources",
    "UnknownEndpoint",
    "Variable",
    "Version",
    "json_schema",
    "load_definitions",
    "load_project",
    "sources_schema",
]
