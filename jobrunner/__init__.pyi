from typing import Final

from jobrunner.executor import Executor as Executor
from jobrunner.tasks.context import current_job as current_job
from jobrunner.tasks.registry import task as task

__version__: Final[str]
__all__ = ["Executor", "current_job", "task"]
