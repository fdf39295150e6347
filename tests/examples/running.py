"""Running a task as the job process would, without one."""

from collections.abc import Generator
from typing import Any

from jobrunner.tasks.registry import REGISTRY

#: what a task said of its progress: done, total, message
Told = list[tuple[float, float | None, str | None]]
Running = Generator[dict[str, Any], None, dict[str, Any]]


def drained(running: Running) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the partial results and the result of a called task."""
    partials: list[dict[str, Any]] = []
    while True:
        try:
            partials.append(next(running))
        except StopIteration as ended:
            return partials, ended.value


def result(running: Running) -> dict[str, Any]:
    return drained(running)[1]


def from_json(name: str, params: dict[str, Any]) -> Running:
    """Call the task of this name with what the parameters mean."""
    task = REGISTRY[name]
    running: Running = task.function(**task.parameters.arguments(params))
    return running
