"""Importing the modules that hold tasks, and describing what they hold."""

import importlib
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from jobrunner.errors import DuplicateTaskError
from jobrunner.tasks.registry import REGISTRY, Task


def load(modules: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Import each module; yield its name with None, or with the traceback of what went wrong.

    A module that cannot be imported does not keep the others from being served; its own tasks are not, for code below
    them has not run.

    Raises:
        DuplicateTaskError: two tasks have one name: which one would run?
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except DuplicateTaskError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - user code: anything may come out of it
            _forget_tasks_of(name)
            yield name, traceback.format_exc(limit=-5)
        else:
            yield name, None


def _forget_tasks_of(broken: str) -> None:
    """Take back the tasks of a module, or of one that it imports, whose import has failed."""
    for name, task in list(REGISTRY.items()):
        home = task.function.__module__
        if home == broken or home not in sys.modules:  # Python forgets a module that has failed
            del REGISTRY[name]


def in_one_line(why: str) -> str:
    """Return the line that says why a module cannot be imported: of a traceback the last, else the first."""
    lines = [line for line in why.splitlines() if line.strip()] or ["it cannot be imported"]
    return lines[-1 if lines[0].startswith("Traceback") else 0].strip()


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
