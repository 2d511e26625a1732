"""What both planes share. Imports neither dagster nor fastapi."""

import os

# Importing pandera sets this to 1 where it is unset. From then on pyarrow takes the wall clock of an aware
# datetime for UTC, in the whole process and its children. An empty value means no, and pandera leaves it.
os.environ["PYARROW_IGNORE_TIMEZONE"] = ""
