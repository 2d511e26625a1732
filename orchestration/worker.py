"""What this process was started for: a run of some assets, or the whole code location.

Dagster starts a process for every run, and each loads the code location anew. Of thousands of versions it
then needs one. The process cannot be told so; but it can see the run that it was started with, and load the
endpoints that the run selects. Where it sees none (the code server, tests, a run of another kind) it loads
them all, which is never wrong.
"""

from __future__ import annotations

import multiprocessing
import sys

import dagster as dg
from dagster_shared.serdes import deserialize_value
from dagster_shared.serdes.errors import DeserializationError


def selected_endpoints() -> frozenset[str] | None:
    """The endpoints of the run that this process executes; None where all are to be loaded."""
    run = _own_run()
    if run is None or not run.asset_selection:
        return None
    checks = {check.asset_key for check in run.asset_check_selection or ()}
    paths = [key.path for key in run.asset_selection | checks]
    return frozenset(path[1] for path in paths if path[0] == "endpoints")


def _own_run() -> dg.DagsterRun | None:
    """The run that Dagster has handed to this process: the code server as an argument of the process that it
    spawns, other launchers on the command line.
    """
    handed = (*getattr(multiprocessing.current_process(), "_args", ()), *sys.argv[1:])
    for text in handed:
        if not isinstance(text, str) or not text.startswith("{"):
            continue
        try:
            arguments = deserialize_value(text)
        except (DeserializationError, ValueError):
            continue
        reference, run_id = getattr(arguments, "instance_ref", None), getattr(arguments, "run_id", None)
        if reference is not None and run_id is not None:
            with dg.DagsterInstance.from_ref(reference) as instance:
                return instance.get_run_by_id(run_id)
    return None
