"""What requests may say: one marshmallow schema for each body and each query string."""

import itertools
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar, Final, TypeAlias

from marshmallow import Schema, ValidationError, fields

from jobrunner.api.fields import (
    TEN_YEARS_SECONDS,
    Digits,
    Flag,
    JsonObject,
    Moment,
    OneOf,
    Seconds,
    Size,
    TrueOrFalse,
    Whole,
    Word,
)
from jobrunner.api.map_fields import MapSpec, ReduceSpec
from jobrunner.api.naming_fields import Ids, LabelPair, Labels, ListedIds
from jobrunner.api.pointers import MAX_ERRORS, Flaw
from jobrunner.lifecycle import State

_MILLION: Final = 1_000_000
_MAX_SEQ: Final = 2**63 - 1  # the largest that the store can hold
_MAX_COUNT: Final = 10**12
_SLICE: Final = 500  # items that are looked at before those with flaws are enough
SEQ_DIGITS: Final = 18  #: of the largest seq that anybody may name
MAX_PAGE: Final = 1000  #: items in one answer
OF_MAP_JOBS: Final = ("reduce", "max_failed", "max_parallel", "chunk_size")  #: what only a map job may say


def _means(text: str) -> dict[str, str]:
    """Return metadata that the OpenAPI document tells."""
    return {"means": text}


class Submission(Schema):
    """A job to be: the body of `POST /jobs`, and each item of `POST /jobs/batch`.

    What is left out, the task decides.
    """

    #: what the fields together must be, beside what each must be
    also: ClassVar[dict[str, Any]] = {
        "not": {
            "properties": {name: {"not": {"type": "null"}} for name in ("run_at", "delay_seconds")},
            "required": ["run_at", "delay_seconds"],
        },
        "dependentRequired": {name: ["map"] for name in OF_MAP_JOBS},
    }

    task = Word(200, required=True, metadata=_means("Its name; `GET /tasks` lists them."))
    params = JsonObject(load_default=dict, metadata=_means("As the task's `params` say, a JSON Schema."))
    map = MapSpec(
        metadata=_means(
            "Makes it a map job, which calls the task once for each item: a list of parameter objects, or what "
            "parameters run through, a list of values or a range; of several the product, whose last one runs fastest."
        )
    )
    reduce = ReduceSpec(
        metadata=_means(
            "Of a map job: the task that makes the result of it.  Its first parameter gets the stream of all values, "
            "in the order of the items."
        )
    )
    max_failed = Whole(
        0, _MAX_COUNT, metadata=_means("Of a map job: with more failed items than this it ends early.")
    )
    max_parallel = Whole(1, _MILLION, metadata=_means("Of a map job: chunks of its items at a time."))
    chunk_size = Whole(
        1,
        10 * _MILLION,
        metadata=_means("Of a map job: items in a chunk; if left out, as many as take a moment."),
    )
    priority = Whole(
        -_MILLION, _MILLION, metadata=_means("Of two jobs that are due, the higher one runs first.")
    )
    queue = Word(100, metadata=_means("It can be paused."))
    run_at = Moment(allow_none=True, metadata=_means("Not before then."))
    delay_seconds = Seconds(
        TEN_YEARS_SECONDS,
        allow_none=True,
        metadata=_means("Not before so much later; in the place of `run_at`."),
    )
    timeout = Seconds(
        TEN_YEARS_SECONDS,
        above_zero=True,
        allow_none=True,
        metadata=_means("Seconds that an attempt may take; null: any time."),
    )
    retries = Whole(0, _MILLION, metadata=_means("Attempts after one that raised, or took too long."))
    crash_retries = Whole(0, _MILLION, metadata=_means("Attempts after one whose process died."))
    memory_limit = Size(
        allow_none=True, metadata=_means("Of all processes of the job, in bytes or as `2G`; null: none.")
    )
    labels = Labels(20, load_default=dict, metadata=_means("Anything to find it by."))


class Cancellation(Schema):
    """The body of `POST /jobs/{id}/cancel`, which may be left out."""

    grace_seconds = Seconds(3600, metadata=_means("Between SIGTERM and SIGKILL."))


class Rest(StrEnum):
    """What of a map job may run again without the rest."""

    FAILED = "failed"


class Retry(Schema):
    """The body of `POST /jobs/{id}/retry`, which may be left out."""

    only = OneOf(  # type: ignore[assignment]  # marshmallow makes no attribute of it
        Rest, metadata=_means("Of a map job: what has succeeded is kept, and only the other items run.")
    )


class QueueChange(Schema):
    """The body of `PATCH /queues/{name}`."""

    paused = TrueOrFalse(required=True, metadata=_means("While it is, none of its jobs is started."))


class ManyCancellation(Schema):
    """The body of `POST /jobs/cancel`."""

    ids = ListedIds(10_000, required=True, metadata=_means("Those that are not queued are left alone."))


class NoQuery(Schema):
    """No query string."""


class JobsQuery(Schema):
    """Which jobs to list."""

    state = fields.List(OneOf(State), load_default=list, metadata=_means("One of these."))
    task = Word(200, load_default=None)
    queue = Word(100, load_default=None)
    label = fields.List(LabelPair(), load_default=list, metadata=_means("All of these."))
    created_after = Moment(load_default=None)
    limit = Digits(1, MAX_PAGE, load_default=50)
    after = fields.String(
        load_default=None, metadata=_means("The `next` of the page before, with the same filters.")
    )


class WaitQuery(Schema):
    """For how long to wait."""

    wait = Digits(
        0, _MILLION, load_default=None, metadata=_means("Seconds; no longer than the setting `max_wait`.")
    )


class FinishedQuery(WaitQuery):
    """Which jobs to look at, whether they are final."""

    label = LabelPair(required=True)
    ids = Ids(
        MAX_PAGE, load_default=((1, _MAX_SEQ),), metadata=_means("Ids and ranges, such as `3,5-9,12-`.")
    )
    limit = Digits(1, MAX_PAGE, load_default=MAX_PAGE)


class PartialsQuery(WaitQuery):
    """Which partial results to list."""

    after = Digits(0, _MAX_SEQ, load_default=0, metadata=_means("The last `seq` that was seen."))
    limit = Digits(1, MAX_PAGE, load_default=100)
    attempt = Digits(1, _MILLION, load_default=None, metadata=_means("Those of this attempt alone."))


class ItemState(StrEnum):
    """How an item may have ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ItemsQuery(Schema):
    """Which items of a map job to list."""

    state = fields.List(
        OneOf(ItemState), load_default=list, metadata=_means("One of these; if left out, both.")
    )
    after = Digits(0, _MAX_COUNT, load_default=None, metadata=_means("The last `index` that was seen."))
    limit = Digits(1, MAX_PAGE, load_default=100)


class SeriesQuery(Schema):
    """Which time to show, in steps of how many seconds; null: as many as a chart shows."""

    window = Digits(1, 90 * 86_400, load_default=3600)
    step = Digits(1, 86_400, load_default=None)


class EventsQuery(Schema):
    """Which events to stream."""

    after = Digits(0, _MAX_SEQ, load_default=0, metadata=_means("The last event that was seen."))


class LogQuery(Schema):
    """Which part of a log to show."""

    attempt = Digits(1, _MILLION, load_default=None, metadata=_means("Its log; if left out, the last one's."))
    tail = Digits(0, _MILLION, load_default=None, metadata=_means("So many of its last lines."))
    follow = Flag(load_default=False, metadata=_means("Also what will be printed, until the job is final."))


Loaded: TypeAlias = dict[str, Any]


def load(schema: Schema, items: list[Any]) -> tuple[list[Loaded], list[Flaw]]:
    """Return what each of `items` says, or else the first things wrong with them; a path starts with the index."""
    loaded: list[Loaded] = []
    flaws: list[Flaw] = []
    for start in range(0, len(items), _SLICE):
        some = [_short(schema, item) for item in items[start : start + _SLICE]]
        try:
            loaded += schema.load(some, many=True)
        except ValidationError as error:
            told = error.messages_dict.items()
            found = (flaw for at, messages in told for flaw in _flaws(schema, some, at, messages))
            flaws += (Flaw((start + int(at), *path), detail) for (at, *path), detail in found)
        if len(flaws) >= MAX_ERRORS:
            break
    return ([], flaws) if flaws else (loaded, [])


def _short(schema: Schema, item: Any) -> Any:
    """Return `item` with no more unknown members than are reported: a body has room for a million of them."""
    if not isinstance(item, dict) or len(item) <= len(schema.fields) + MAX_ERRORS:
        return item
    strange = itertools.islice((name for name in item if name not in schema.fields), MAX_ERRORS)
    return {name: item[name] for name in (*(item.keys() & schema.fields.keys()), *strange)}


def _flaws(schema: Schema, items: list[Any], index: Any, told: dict[str, Any]) -> Iterator[Flaw]:
    if not isinstance(items[index], dict):
        yield Flaw((index,), "must be an object")
        return
    for name, messages in told.items():
        for path, detail in _flat(messages):
            yield Flaw((index, name, *path), detail if name in schema.fields else unknown(schema))


def _flat(messages: Any) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(messages, list):
        return [((), detail) for detail in messages]
    return [((key, *path), detail) for key, inside in messages.items() for path, detail in _flat(inside)]


def unknown(schema: Schema) -> str:
    """Return what to say of a name that `schema` does not have."""
    return f"is not known here; there is {', '.join(schema.fields) or 'nothing to say'}"
