"""A job's history as it goes on: each entry once and in order, however often the connection is lost."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from jobrunner.answers import Event
from jobrunner.answers import Job as JobData
from jobrunner.answers import Partial as PartialData
from jobrunner.answers import Partials as PartialsData
from jobrunner.client.calls import Calls, checked
from jobrunner.client.errors import BadAnswerError, UnreachableError
from jobrunner.lifecycle import FINAL

_REST_SECONDS: Final = 0.1  #: before asking again after a stream that told nothing

_Item = TypeVar("_Item")


def partials(calls: Calls, job_id: int, after: int) -> Iterator[PartialData]:
    """Yield the partial results after the seq `after`, until the job is final."""
    path = f"/jobs/{job_id}/partials"

    def read(seq: int) -> Iterator[tuple[int, PartialData]]:
        for line in calls.lines(path, "application/x-ndjson", [("after", seq)]):
            if line:  # an empty one is a sign of life
                item = checked(_decoded(line), PartialData)
                yield item["seq"], item

    def is_over(seq: int) -> bool:
        page = calls.get(path, PartialsData, [("after", seq), ("limit", 1)])
        return page["complete"] and not page["items"]

    return _resumed(read, is_over, after)


def events(calls: Calls, job_id: int, after: int) -> Iterator[Event]:
    """Yield the entries of the job's history after the seq `after`, until the job is final."""

    def read(seq: int) -> Iterator[tuple[int, Event]]:
        for name, data in _frames(
            calls.lines(f"/jobs/{job_id}/events", "text/event-stream", [("after", seq)])
        ):
            if name != "end":
                event = checked({"event": name, **data}, Event)
                yield event["seq"], event

    def is_over(seq: int) -> bool:
        job = calls.get(f"/jobs/{job_id}", JobData)
        return job["state"] in FINAL and seq >= job["version"]

    return _resumed(read, is_over, after)


def _resumed(
    read: Callable[[int], Iterator[tuple[int, _Item]]], is_over: Callable[[int], bool], after: int
) -> Iterator[_Item]:
    while True:
        before = after
        with contextlib.suppress(UnreachableError):  # what follows is asked patiently
            for seq, item in read(after):
                after = seq
                yield item
        if is_over(after):
            return
        if after == before:
            time.sleep(_REST_SECONDS)


def _frames(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the data of each server-sent event."""
    name = data = b""
    for line in lines:
        field, _, value = line.partition(b": ")
        if field == b"event":
            name = value
        elif field == b"data":
            data = value
        elif not line:
            if data:
                yield name.decode(), _decoded(data)
            name = data = b""


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise BadAnswerError(f"the answer is not JSON: {line[:60]!r}; is it jobrunner's?") from None
