"""Runs the items of a chunk, one after another, in the job process.

A million items are to cost less than a million jobs, so what an item needs is laid out beforehand, and the loop does
as little as it can: note the item, call the function, put the value where it survives this process.
"""

import copy
import functools
import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any, Final

from jobrunner.dispatcher.lines import Kind
from jobrunner.dispatcher.stopped import Stopped
from jobrunner.dispatcher.tail import Tail
from jobrunner.dispatcher.telling import encoded, told
from jobrunner.items import Cut
from jobrunner.tasks.context import CurrentJob
from jobrunner.tasks.registry import Task

SEND_SECONDS: Final = 0.25  #: values travel on after this, at the next item's end
_SIMPLE: Final = frozenset(
    {int, float, str, bool, type(None)}
)  # which a task cannot change for the next item
_WRITTEN: Final = {None: b"null,", True: b"true,", False: b"false,"}
_BIG: Final = 1 << 62

Call = Callable[..., Any]

_forked: list[bool] = []  # not empty in a process that a task has forked
os.register_at_fork(after_in_child=lambda: _forked.append(True))


class ChunkRun:
    """One chunk in this process."""

    def __init__(
        self,
        say: Callable[..., None],
        tail: Tail,
        leave_if_forked: Callable[[], None],
        *,
        max_partial_bytes: int,
    ) -> None:
        self._say = say
        self._tail = tail
        self._leave_if_forked = leave_if_forked
        self._max_bytes = max_partial_bytes

    def run(self, task: Task, params: dict[str, Any], told_chunk: dict[str, Any], job: CurrentJob) -> str:
        """Run items until all are done, the time is up or too many have failed; return a `lines.ChunkEnd`."""
        cut = Cut(told_chunk["items"])
        self._fatal = told_chunk["fatal"]
        self._may_fail = math.inf if told_chunk["may_fail"] is None else told_chunk["may_fail"]
        function, calls = _calls(task, params, cut)
        started = time.monotonic()
        stop_at = started + (told_chunk["seconds"] or math.inf)
        self._tail.sent(cut.first)
        self._tail.begin_until(stop_at)
        following = self._loop(function, enumerate(calls, cut.first), stop_at, job)
        following = cut.first if following is None else following + 1
        self._send(following)
        return json.dumps({"following": following, "seconds": time.monotonic() - started})

    def _loop(  # noqa: C901 - one straight line, a million times
        self, call: Call, rows: Iterator[tuple[int, Sequence[Any]]], stop_at: float, job: CurrentJob
    ) -> int | None:
        """Return the last item that was run; None if there was none."""
        begin, append, monotonic = self._tail.start, self._tail.append, time.monotonic
        send_at = monotonic() + SEND_SECONDS
        item = None
        for item, row in rows:
            if not begin(item):
                return item - 1
            job.item = item
            try:
                value = call(*row)
                data = b"%d," % value if type(value) is int and -_BIG < value < _BIG else self._encoded(value)
            except Stopped:
                raise
            except BaseException as error:  # noqa: BLE001 - user code: SystemExit and its like end the item alone
                self._fail(item, error)
                if self._may_fail < 0:
                    break
            else:
                if _forked:
                    self._leave_if_forked()
                if not append(data):
                    self._send(item)
                    if not append(data):
                        self._say((Kind.VALUES, f"[{item},1,[{data[:-1].decode('ascii')}]]"))
                        self._tail.sent(item + 1)
            now = monotonic()
            if now >= send_at:
                self._send(item + 1)
                send_at = now + SEND_SECONDS
            if now >= stop_at:
                break
        return item

    def _encoded(self, value: Any) -> bytes:
        """Return a value as JSON, with a comma at its end."""
        if type(value) is GeneratorType:
            value = _returned(value)
        if type(value) is float and math.isfinite(value):
            return b"%r," % value
        if value is None or value is True or value is False:
            return _WRITTEN[value]
        return encoded(value, "the value", self._max_bytes, "max_partial_bytes").encode("ascii") + b","

    def _send(self, following: int) -> None:
        """Send the values that were put aside; the next one will be that of the item `following`."""
        values = self._tail.take()
        if values:
            first = self._tail.first
            self._say((Kind.VALUES, f"[{first},{following - first},[{values.decode('ascii')}]]"))
        self._tail.sent(following)

    def _fail(self, item: int, error: BaseException) -> None:
        self._leave_if_forked()
        self._send(item)
        why = told(error)
        self._may_fail -= why["kind"] in self._fatal
        self._say((Kind.ITEM_FAILED, json.dumps({"item": item, **why})))
        self._tail.sent(item + 1)


def _returned(values: Generator[Any, None, Any]) -> Any:
    """Return what a generator returns; what it yields of one item among many is not kept."""
    try:
        while True:
            next(values)
    except StopIteration as end:
        return end.value


def _calls(task: Task, params: dict[str, Any], cut: Cut) -> tuple[Call, Iterator[Sequence[Any]]]:
    """Return what to call for each item, and with which arguments."""
    converted = _converted(task, params, cut)
    if converted is not None:
        common, columns = converted
        names = list(columns)
        rows = zip(*columns.values(), strict=True)
        function = functools.partial(task.function, **common) if common else task.function
        if task.parameters.positional[: len(names)] == names:
            return function, rows
        return lambda *row: function(**dict(zip(names, row, strict=True))), rows

    def call(given: dict[str, Any]) -> Any:
        # Each item has its own: what one does to a list must not reach the next.
        return task.function(**task.parameters.arguments(copy.deepcopy(given)))

    return call, ((given,) for given in _given(params, cut))


def _converted(
    task: Task, params: dict[str, Any], cut: Cut
) -> tuple[dict[str, Any], dict[str, list[Any]]] | None:
    """Return the arguments of all items, converted at one go; None where each item needs its own look."""
    columns: dict[str, list[Any]] = {}
    for name, values, places in cut.columns():
        made = None if name is None else task.parameters.column(name, values)
        if name is None or made is None or not _SIMPLE.issuperset(map(type, made)):
            return None
        columns[name] = made if places is None else [made[place] for place in places]
    common: dict[str, Any] = {}
    for name, value in params.items():
        made = task.parameters.column(name, [value])
        if made is None or type(made[0]) not in _SIMPLE:
            return None
        common[name] = made[0]
    in_order = sorted(columns, key=task.parameters.names.index)
    return common, {name: columns[name] for name in in_order}


def _given(params: Mapping[str, Any], cut: Cut) -> Iterator[dict[str, Any]]:
    """Yield the parameters of each item as they were given."""
    columns = [
        (name, values if places is None else [values[place] for place in places])
        for name, values, places in cut.columns()
    ]
    for place in range(cut.count):
        given = dict(params)
        for name, values in columns:
            given |= values[place] if name is None else {name: values[place]}
        yield given
