"""What both planes share. Imports neither dagster nor fastapi."""

import os

# Importing pandera sets this to 1, and from then on pyarrow takes the local clock of an aware datetime for UTC,
# in the whole process and in its children. Set, even to nothing, it is left alone.
os.environ["PYARROW_IGNORE_TIMEZONE"] = ""
