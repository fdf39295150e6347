"""A `concurrent.futures.Executor` whose calls are jobs.

from jobrunner import Executor

with Executor() as executor:
    print(list(executor.map(square, range(10))))
"""

from jobrunner.executor.executor import Executor
from jobrunner.executor.future import JobFuture

__all__ = ["Executor", "JobFuture"]
