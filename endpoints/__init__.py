"""What both planes share. Imports neither dagster nor fastapi."""

import os

# Importing pandera sets this to "1" for pyspark's sake (pandera/external_config.py). pyarrow reads it at every
# conversion and then drops the zone of aware datetimes: 05:30 in Kolkata became 05:30 UTC, off by 5:30.
# Empty means no to pyarrow, and "already chosen" to pandera.
os.environ["PYARROW_IGNORE_TIMEZONE"] = ""
