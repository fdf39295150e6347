"""Importing the modules that hold tasks, and describing what they hold."""

import importlib
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from jobrunner.errors import DuplicateTaskError
from jobrunner.tasks.registry import REGISTRY, Task


def load(modules: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Import each module; yield its name with None, or with the traceback of what went wrong.

    A module that cannot be imported does not keep the others from being served.

    Raises:
        DuplicateTaskError: two tasks have one name: which one would run?
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except DuplicateTaskError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - user code: anything may come out of it
            yield name, traceback.format_exc(limit=-5)
        else:
            yield name, None


def described(task: Task) -> dict[str, Any]:
    """Return what the API must know of a task, as JSON can carry it."""
    return {
        "name": task.name,
        "doc": task.doc,
        "params": task.parameters.schema,
        "options": dict(task.options),
    }


def catalogue() -> list[dict[str, Any]]:
    """Return the description of every registered task, by name."""
    return [described(REGISTRY[name]) for name in sorted(REGISTRY)]
