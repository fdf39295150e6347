"""What a job tells bit by bit: each entry once and in order, however often the connection is lost."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from jobrunner.answers import Event, Failure, ItemPage
from jobrunner.answers import Item as ItemData
from jobrunner.answers import Job as JobData
from jobrunner.answers import Partial as PartialData
from jobrunner.answers import Partials as PartialsData
from jobrunner.client.calls import Calls, checked, given
from jobrunner.client.errors import BadAnswerError, UnreachableError
from jobrunner.lifecycle import FINAL, State

WAIT_SECONDS: Final = 30  #: that one request waits; a longer wait is several
_LINES: Final = "application/x-ndjson"
_REST_SECONDS: Final = 0.1  #: before asking again after a stream that told nothing
_PAGE: Final = 1000  #: items in one answer
_FIRST_REST_SECONDS: Final = 0.01  #: between looks at items that come, but not the one whose turn it is
_LONGEST_REST_SECONDS: Final = 0.2
_PROMPTLY_SECONDS: Final = 5.0  #: for what is there to be told, also when the time to wait for more is up

_Told = TypeVar("_Told")


class Settled(NamedTuple):
    """What became of an item of a map job: its value, or else the error with which it failed for good."""

    index: int  # type: ignore[assignment]  # a tuple has a method of this name
    value: Any
    error: Failure | None


def partials(calls: Calls, job_id: int, after: int) -> Iterator[PartialData]:
    """Yield the partial results after the seq `after`, until the job is final."""
    path = f"/jobs/{job_id}/partials"

    def read(seq: int) -> Iterator[tuple[int, PartialData]]:
        for line in calls.lines(path, _LINES, [("after", seq)]):
            if line:  # an empty one is a sign of life
                partial = checked(_decoded(line), PartialData)
                yield partial["seq"], partial

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


def is_swept(job: JobData) -> bool:
    """Whether it is a map job whose values are its result, for nothing reduces them."""
    return job["map"] is not None and job["map"]["reduce"] is None


def values(calls: Calls, job_id: int, seen: int = 0) -> Iterator[Any]:
    """Yield the values of a map job that has succeeded, in the order of its items, but for the first `seen`."""

    def read(seen: int) -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(calls.lines(f"/jobs/{job_id}/result", _LINES), start=1):
            if number > seen:
                yield number, _decoded(line)

    def is_over(seen: int) -> bool:
        told = calls.get(f"/jobs/{job_id}", JobData)["map"]
        return told is None or seen == told["items"]

    return _resumed(read, is_over, seen)


def items(calls: Calls, job_id: int, states: Sequence[str], after: int | None) -> Iterator[ItemData]:
    """Yield what became of the items after the index `after`, in order, as far as that is known now."""
    path, wanted = f"/jobs/{job_id}/items", [("state", one) for one in states]

    def query(index: int, **more: int) -> list[tuple[str, Any]]:
        return [*wanted, *given(after=None if index < 0 else index, **more)]

    def read(index: int) -> Iterator[tuple[int, ItemData]]:
        for line in calls.lines(path, _LINES, query(index)):
            item = checked(_decoded(line), ItemData)
            yield item["index"], item

    def is_over(index: int) -> bool:
        return not calls.get(path, ItemPage, query(index, limit=1))["items"]

    return _resumed(read, is_over, -1 if after is None else after)


def settled(calls: Calls, job: JobData, count: int, end: float) -> Iterator[Settled]:
    """Yield what became of `count` items in order, of each as soon as it is known, and of those before it.

    If the job ends early, so does this.  The store holds what is not its turn yet: here, no more than a page is held.

    Raises:
        TimeoutError: nothing is known of the next one at the monotonic time `end`.
    """
    path = f"/jobs/{job['id']}"
    index, limit, rest_seconds = 0, _PAGE, 0.0
    while True:
        start = time.monotonic()
        query = given(after=index - 1 if index else None, limit=limit)
        within_seconds = max(end - start, _PROMPTLY_SECONDS)
        page = calls.get(f"{path}/items", ItemPage, query, within_seconds=within_seconds)
        took_seconds = time.monotonic() - start
        run = [item for place, item in enumerate(page["items"], index) if item["index"] == place]
        yield from (Settled(item["index"], item["value"], item["error"]) for item in run)
        index += len(run)
        if index == count or (job["state"] in FINAL and not run):  # it was final before this look
            return
        if job["state"] == State.SUCCEEDED and is_swept(job):
            rest = enumerate(values(calls, job["id"], index), index)  # the quickest way to very many
            yield from (Settled(place, value, None) for place, value in rest)
            return
        limit = _PAGE if run else 1  # while others come, it is enough to see whose turn it is
        if page["next"] is not None and len(run) == len(page["items"]):
            job = calls.get(path, JobData)
        elif job["state"] not in FINAL:
            rest_seconds = 0.0 if run else _longer(rest_seconds)
            job = _news(calls, job, max(rest_seconds, took_seconds), end)


def _longer(rest_seconds: float) -> float:
    return min(max(_FIRST_REST_SECONDS, 1.5 * rest_seconds), _LONGEST_REST_SECONDS)


def _news(calls: Calls, job: JobData, rest_seconds: float, end: float) -> JobData:
    """Rest, and wait for another version of the job; return how it stands.

    Raises:
        TimeoutError: nothing is new at the monotonic time `end`.
    """
    time.sleep(max(0.0, min(rest_seconds, end - time.monotonic())))
    left = end - time.monotonic()
    if left > 0:
        wait_seconds = math.ceil(min(WAIT_SECONDS, left))
        path, known = f"/jobs/{job['id']}", job["version"]
        try:
            news = calls.news(path, JobData, known, wait_seconds=wait_seconds, within_seconds=left)
        except UnreachableError:
            if time.monotonic() < end:
                raise
        else:
            return job if news is None else news
    raise TimeoutError(f"job {job['id']} goes on, and time is up")


def _resumed(
    read: Callable[[int], Iterator[tuple[int, _Told]]], is_over: Callable[[int], bool], after: int
) -> Iterator[_Told]:
    while True:
        before = after
        with contextlib.suppress(UnreachableError):  # what follows is asked patiently
            for place, told in read(after):
                after = place
                yield told
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
