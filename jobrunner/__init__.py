"""Jobrunner runs CPU-bound Python functions on all the cores of a machine, submitted over HTTP.

from jobrunner import task

@task
def square(n: int) -> int:
    return n * n
"""

import importlib
from typing import Any, Final

__version__ = "0.1.0"
__all__ = ["Executor", "current_job", "task"]

# Each is loaded when it is asked for: a job process needs no HTTP, and a client no msgspec.  Their types are
# in `__init__.pyi`.
_HOMES: Final = {
    "Executor": "jobrunner.executor",
    "current_job": "jobrunner.tasks.context",
    "task": "jobrunner.tasks.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
