"""Tasks that do as a test says: it holds the files, they wait for them."""

from collections.abc import Generator
from pathlib import Path
from threading import Event
from typing import Any

from jobrunner import current_job, task


@task
def steps(folder: str, count: int = 3) -> Generator[dict[str, Any], None, int]:
    """Do a step for each file that appears in a folder: 1, 2, 3."""
    for step in range(1, count + 1):
        current_job().progress(step - 1, count, f"waiting for {step}")
        while not Path(folder, str(step)).exists():
            Event().wait(0.005)
        print(f"step {step}")  # noqa: T201 - the job's log
        yield {"step": step}
    current_job().progress(count, count)
    return count


@task
def wrong(divisor: int = 0) -> float:
    """Divide by zero."""
    return 1 / divisor
