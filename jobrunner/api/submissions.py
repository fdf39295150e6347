"""From the body of a submission to a job that can be stored: every rule of the door, all flaws at once."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from jobrunner.api import mapping, schemas
from jobrunner.api.map_fields import with_whole_ranges
from jobrunner.api.pointers import MAX_ERRORS, Flaw, Path, invalid_fields
from jobrunner.api.published import Shelf
from jobrunner.api.refusals import NoTasksError, ParamsTooLargeError
from jobrunner.store.jobs import NewJob, NewMap

_SCHEMA: Final = schemas.Submission()
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def task_names(items: Sequence[Any]) -> set[str]:
    """Return the task names in `items`, which nobody has checked yet."""
    objects = [item for item in items if isinstance(item, dict)]
    reduces = [item["reduce"] for item in objects if "reduce" in item]
    names = [item.get("task") for item in objects]
    names += [one.get("task") if isinstance(one, dict) else one for one in reduces]
    return {name for name in names if isinstance(name, str)}


class Limits(NamedTuple):
    """How much one job may be: the settings of these names."""

    max_params_bytes: int
    max_items: int


def checked(items: list[Any], shelf: Shelf, *, single: bool, limits: Limits, now: datetime) -> list[NewJob]:
    """Return the jobs that `items` ask for.

    Args:
        items: the bodies.
        shelf: the tasks that they name.
        single: pointers start at the one item, not at the list of all.
        limits: of each.
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
    known = {flaw.path[:2] for flaw in flaws}
    more = list(itertools.islice(_more_flaws(items, shelf, limits, known), MAX_ERRORS))
    if single and not flaws and [flaw.path for flaw in more] == [(0, "task")]:
        raise shelf.unknown(items[0]["task"])
    if flaws or more:
        ordered = sorted(flaws + more, key=lambda flaw: flaw.path[0])
        raise invalid_fields(
            Flaw(path[1:], detail) if single else Flaw(path, detail) for path, detail in ordered
        )
    return [_new_job(fields, shelf, limits, now) for fields in loaded]


def _more_flaws(items: list[Any], shelf: Shelf, limits: Limits, known: set[Path]) -> Iterator[Flaw]:
    """Yield what only the catalogue, a limit, or two fields together, can tell."""
    for index, item in enumerate(items):
        if isinstance(item, dict):
            sound = {name: value for name, value in item.items() if (index, name) not in known}
            found = _flaws_of_one(item, sound, shelf, limits)
            yield from (Flaw((index, *path), detail) for path, detail in found)


def _flaws_of_one(
    item: Mapping[str, Any], sound: Mapping[str, Any], shelf: Shelf, limits: Limits
) -> Iterator[Flaw]:
    """Yield what else is wrong with a submission; nothing is wrong yet with those of its fields that are `sound`."""
    name, params = item.get("task"), item.get("params", {})
    task = shelf.tasks.get(name) if isinstance(name, str) else None
    if task is None and "task" in sound:
        yield Flaw(("task",), shelf.unknown(name).errors[0]["detail"])
    elif task is not None and isinstance(params, dict) and "map" not in item:
        yield from (Flaw(("params", *path), detail) for path, detail in task.flaws(params))
    elif task is not None and isinstance(params, dict) and "map" in sound:
        yield from mapping.item_flaws(with_whole_ranges(sound["map"]), params, task)
    if "map" in sound and (count := mapping.count(with_whole_ranges(sound["map"]))) > limits.max_items:
        most = limits.max_items
        yield Flaw(("map",), f"has {count} items, max_items is {most}: make several jobs of them")
    if "reduce" in sound:
        found = mapping.reduce_flaws(sound["reduce"], shelf)
        yield from (Flaw(("reduce", *path), detail) for path, detail in found)
    if "map" not in item:
        yield from (Flaw((one,), "goes with map alone") for one in schemas.OF_MAP_JOBS if one in item)
    if item.get("run_at") is not None and item.get("delay_seconds") is not None:
        yield Flaw(("delay_seconds",), "must be left out where run_at is given")


def _new_job(fields: schemas.Loaded, shelf: Shelf, limits: Limits, now: datetime) -> NewJob:
    params = _encode(fields["params"])
    new_map = _new_map(fields) if "map" in fields else None
    _require_small(params, None if new_map is None else new_map.spec, limits.max_params_bytes)
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
        map=new_map,
    )


def _new_map(fields: schemas.Loaded) -> NewMap:
    reduce = fields.get("reduce")
    return NewMap(
        spec=_encode(fields["map"]),
        item_count=mapping.count(fields["map"]),
        reduce_task=None if reduce is None else reduce["task"],
        reduce_params=None if reduce is None else _encode(reduce["params"]),
        max_failed=fields.get("max_failed"),
        max_parallel=fields.get("max_parallel"),
        chunk_size=fields.get("chunk_size"),
    )


def _require_small(params: str, spec: str | None, limit: int) -> None:
    """Raise ParamsTooLargeError if the parameters of the job, or of one of its items, take more bytes than this."""
    if (len(params) + len(spec or "")) * 4 <= limit:
        return
    size = len(params.encode())
    if spec is not None and size + len(spec.encode()) > limit:
        size += mapping.largest_bytes(spec)
    if size > limit:
        whose = "the parameters" if spec is None else "the parameters of the largest item"
        raise ParamsTooLargeError(f"{whose} are {size} bytes of JSON, max_params_bytes is {limit}")
