"""What requests may say: one marshmallow schema for each body and each query string."""

from typing import Any, Final, TypeAlias

from marshmallow import Schema, ValidationError, fields

from jobrunner.api.fields import (
    TEN_YEARS_SECONDS,
    Digits,
    Flag,
    JsonObject,
    LabelPair,
    Labels,
    Moment,
    OneOf,
    Seconds,
    Size,
    Whole,
    Word,
)
from jobrunner.api.pointers import Flaw
from jobrunner.lifecycle import State

_MILLION: Final = 1_000_000
_MAX_SEQ: Final = 2**63 - 1  # the largest that the store can hold
SEQ_DIGITS: Final = 18  #: of the largest seq that anybody may name
MAX_PAGE: Final = 1000  #: items in one answer


class Submission(Schema):
    """A job to be: the body of `POST /jobs`, and each item of `POST /jobs/batch`."""

    task = Word(200, required=True)
    params = JsonObject(load_default=dict)
    priority = Whole(-_MILLION, _MILLION)
    queue = Word(100)
    run_at = Moment(allow_none=True)
    delay_seconds = Seconds(TEN_YEARS_SECONDS, allow_none=True)
    timeout = Seconds(TEN_YEARS_SECONDS, above_zero=True, allow_none=True)
    retries = Whole(0, _MILLION)
    crash_retries = Whole(0, _MILLION)
    memory_limit = Size(1 << 20, 1 << 60, allow_none=True)
    labels = Labels(20, load_default=dict)


class Cancellation(Schema):
    """The body of `POST /jobs/{id}/cancel`, which may be left out."""

    grace_seconds = Seconds(3600)


class NoQuery(Schema):
    """No query string."""


class JobsQuery(Schema):
    """Which jobs to list."""

    state = fields.List(OneOf(State), load_default=list)
    task = Word(200, load_default=None)
    queue = Word(100, load_default=None)
    label = fields.List(LabelPair(), load_default=list)
    created_after = Moment(load_default=None)
    limit = Digits(1, MAX_PAGE, load_default=50)
    after = fields.String(load_default=None)


class WaitQuery(Schema):
    """For how long to wait."""

    wait = Digits(0, _MILLION, load_default=None)


class PartialsQuery(WaitQuery):
    """Which partial results to list."""

    after = Digits(0, _MAX_SEQ, load_default=0)
    limit = Digits(1, MAX_PAGE, load_default=100)


class EventsQuery(Schema):
    """Which events to stream."""

    after = Digits(0, _MAX_SEQ, load_default=0)


class LogQuery(Schema):
    """Which part of a log to show."""

    attempt = Digits(1, _MILLION, load_default=None)
    tail = Digits(0, _MILLION, load_default=None)
    follow = Flag(load_default=False)


Loaded: TypeAlias = dict[str, Any]


def load(schema: Schema, items: list[Any]) -> tuple[list[Loaded], list[Flaw]]:
    """Return what each of `items` says, or else what is wrong with them; a path starts with the index."""
    try:
        return schema.load(items, many=True), []
    except ValidationError as error:
        return [], [
            flaw for index, told in error.messages_dict.items() for flaw in _flaws(schema, items, index, told)
        ]


def _flaws(schema: Schema, items: list[Any], index: Any, told: dict[str, Any]) -> list[Flaw]:
    if not isinstance(items[index], dict):
        return [Flaw((index,), "must be an object")]
    return [
        Flaw((index, name, *path), detail if name in schema.fields else unknown(schema))
        for name, messages in told.items()
        for path, detail in _flat(messages)
    ]


def _flat(messages: Any) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(messages, list):
        return [((), detail) for detail in messages]
    return [((key, *path), detail) for key, inside in messages.items() for path, detail in _flat(inside)]


def unknown(schema: Schema) -> str:
    """Return what to say of a name that `schema` does not have."""
    return f"is not known here; there is {', '.join(schema.fields) or 'nothing to say'}"
