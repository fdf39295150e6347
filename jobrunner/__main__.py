"""`python -m jobrunner` is `jobrunner`."""

from jobrunner.cli.main import main

main(prog_name="jobrunner")
