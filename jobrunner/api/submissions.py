"""From the body of a submission to a job that can be stored: every rule of the door, all flaws at once."""

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from jobrunner.api import schemas
from jobrunner.api.pointers import MAX_ERRORS, Flaw, Path, invalid_fields
from jobrunner.api.published import Shelf
from jobrunner.api.refusals import NoTasksError, ParamsTooLargeError
from jobrunner.errors import UnknownTaskError
from jobrunner.store.jobs import NewJob

_SCHEMA: Final = schemas.Submission()
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def task_names(items: Sequence[Any]) -> set[str]:
    """Return the task names in `items`, which nobody has checked yet."""
    names = (item.get("task") for item in items if isinstance(item, dict))
    return {name for name in names if isinstance(name, str)}


def checked(
    items: list[Any], shelf: Shelf, *, single: bool, max_params_bytes: int, now: datetime
) -> list[NewJob]:
    """Return the jobs that `items` ask for.

    Args:
        items: the bodies.
        shelf: the tasks that they name.
        single: pointers start at the one item, not at the list of all.
        max_params_bytes: of the parameters of each, as JSON.
        now: what `delay_seconds` counts from.

    Raises:
        NoTasksError: nothing but the lack of any task is wrong.
        UnknownTaskError: the only thing wrong is one name.
        InvalidFieldsError: this or that is wrong; it reports all that is.
        ParamsTooLargeError: the parameters of one job are too large.
    """
    loaded, flaws = schemas.load(_SCHEMA, items)
    if not flaws and not shelf.names:
        raise NoTasksError
    more = list(itertools.islice(_more_flaws(items, shelf, {flaw.path for flaw in flaws}), MAX_ERRORS))
    if single and not flaws and [flaw.path for flaw in more] == [(0, "task")]:
        raise _unknown(items[0]["task"], shelf)
    if flaws or more:
        ordered = sorted(flaws + more, key=lambda flaw: flaw.path[0])
        raise invalid_fields(
            Flaw(path[1:], detail) if single else Flaw(path, detail) for path, detail in ordered
        )
    return [_new_job(fields, shelf, max_params_bytes, now) for fields in loaded]


def _more_flaws(items: list[Any], shelf: Shelf, known: set[Path]) -> Iterator[Flaw]:
    """Yield what only the catalogue, or two fields together, can tell."""
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        name, params = item.get("task"), item.get("params", {})
        task = shelf.tasks.get(name) if isinstance(name, str) else None
        if task is None and (index, "task") not in known:
            yield Flaw((index, "task"), _unknown(name, shelf).errors[0]["detail"])
        elif task is not None and isinstance(params, dict):
            yield from (Flaw((index, "params", *path), detail) for path, detail in task.flaws(params))
        if item.get("run_at") is not None and item.get("delay_seconds") is not None:
            yield Flaw((index, "delay_seconds"), "must be left out where run_at is given")


def _unknown(name: Any, shelf: Shelf) -> UnknownTaskError:
    return UnknownTaskError("#/task", name, shelf.names)


def _new_job(fields: schemas.Loaded, shelf: Shelf, max_params_bytes: int, now: datetime) -> NewJob:
    params = _encode(fields["params"])
    if len(params) * 4 > max_params_bytes and len(params.encode()) > max_params_bytes:
        raise ParamsTooLargeError(
            f"the parameters are {len(params.encode())} bytes of JSON, max_params_bytes is {max_params_bytes}"
        )
    chosen = {**shelf.tasks[fields["task"]].options, **fields}
    delay = fields.get("delay_seconds")
    return NewJob(
        task=fields["task"],
        params=params,
        priority=chosen["priority"],
        queue=chosen["queue"],
        labels=fields["labels"],
        run_at=fields.get("run_at") if delay is None else now + timedelta(seconds=delay),
        timeout_seconds=chosen["timeout"],
        memory_limit_bytes=chosen["memory_limit"],
        retries=chosen["retries"],
        crash_retries=chosen["crash_retries"],
    )
