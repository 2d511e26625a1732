"""`python -m endpoints.cli`: the command where no script is installed."""

from endpoints.cli import main

main(prog_name="endpoints")
