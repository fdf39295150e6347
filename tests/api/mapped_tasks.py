"""Tasks that a map job calls for each of its items."""

from pathlib import Path

from jobrunner import current_job, task


@task(name="double")
def double(n: int) -> int:
    """Compute a little."""
    return 2 * n


@task(name="need")
def need(path: str) -> int:
    """Need a file or a folder; return the number of the attempt."""
    Path(path).stat()
    return current_job().attempt
