"""Jobrunner runs CPU-bound Python functions on all the cores of a machine, submitted over HTTP.

from jobrunner import task

@task
def square(n: int) -> int:
    return n * n
"""

from jobrunner.tasks.context import current_job
from jobrunner.tasks.registry import task

__version__ = "0.1.0"
__all__ = ["current_job", "task"]
