"""What a shell proposes for a word that is being typed: names that the API knows.

Whoever types waits, so an API that does not answer at once is not waited for, and nothing is said.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from click import Context, Parameter
from click.shell_completion import CompletionItem

from jobrunner.cli import parameters, schemas
from jobrunner.client import Client
from jobrunner.errors import JobrunnerError
from jobrunner.lifecycle import State

_PATIENCE_SECONDS: Final = 1.0  #: for one answer
_MOST_JOBS: Final = 20

Items: TypeAlias = list[CompletionItem[str]]
Completer: TypeAlias = Callable[[Context, Parameter, str], Items]
_Found = TypeVar("_Found")


def task_names(context: Context, _: Parameter, begun: str) -> Items:
    """Propose the tasks, with the first line about each."""
    found = _asked(context, lambda client: client.tasks())
    return _items(((one["name"], (one["doc"].splitlines() or [""])[0]) for one in found), begun)


def queue_names(context: Context, _: Parameter, begun: str) -> Items:
    """Propose the queues."""
    found = _asked(context, lambda client: client.queues())
    return _items(((one["name"], "paused" if one["paused"] else "") for one in found), begun)


def job_ids(*states: State) -> Completer:
    """Return what proposes the newest jobs in these states; without states, in all."""

    def complete(context: Context, _: Parameter, begun: str) -> Items:
        found = _asked(context, lambda client: client.jobs(state=states, limit=_MOST_JOBS))
        return _items(((str(job.id), f"{job.state} {job.task}") for job in found), begun)

    return complete


def map_arguments(context: Context, _: Parameter, begun: str) -> Items:
    """Propose `key=` for each parameter of the task, and files."""
    key, at, file = begun.partition("@")
    if at:
        return _items(((f"{key}@{name}", "") for name in _files(file)), begun)
    # Behind an option that has no value yet, click takes arguments for leftovers.
    name = context.params.get("task") or next(iter(context.args), None)
    found = _asked(context, lambda client: [client.task(name)]) if name else []
    return _items(((f"{key}=", "") for task in found for key in task["params"].get("properties", {})), begun)


def task_arguments(context: Context, _: Parameter, begun: str) -> Items:
    """Propose `key=` for each parameter of the task that is not given yet; behind the `=`, values if they are few."""
    name = context.params.get("task")
    for task in _asked(context, lambda client: [client.task(name)]) if name else []:
        properties, definitions = task["params"].get("properties", {}), task["params"].get("$defs", {})
        key, equals, value = begun.partition("=")
        if value.startswith("@"):
            return _items(((f"{key}=@{file}", "") for file in _files(value[1:])), begun)
        if equals:
            values = schemas.choices(properties.get(key, {}), definitions)
            return _items(((f"{key}={parameters.as_text(one)}", "") for one in values), begun)
        given = {argument.partition("=")[0] for argument in context.params.get("arguments") or ()}
        kinds = {
            key: schemas.kind(schema, definitions) for key, schema in properties.items() if key not in given
        }
        return _items(((f"{key}=", kind) for key, kind in kinds.items()), begun)
    return []


def _files(begun: str) -> Iterator[str]:
    """Yield what stands in the directory that is named so far; a directory ends with a slash."""
    folder = begun[: begun.rfind("/") + 1]
    with suppress(OSError):  # what is typed may name nothing that can be read
        for entry in sorted(Path(folder or ".").iterdir()):
            yield f"{folder}{entry.name}{'/' if entry.is_dir() else ''}"


def _asked(context: Context, ask: Callable[[Client], Iterable[_Found]]) -> list[_Found]:
    url = context.params.get("url")
    try:
        with Client(url, timeout_seconds=_PATIENCE_SECONDS, patience_seconds=0.0) as client:
            return list(ask(client))
    except JobrunnerError:  # the line that is being typed is no place for it; the command itself will tell
        return []


def _items(found: Iterable[tuple[str, str]], begun: str) -> Items:
    return [CompletionItem(value, help=told or None) for value, told in found if value.startswith(begun)]
