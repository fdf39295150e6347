"""What each route takes and answers, as data: the OpenAPI document is made of this table and the schemas it names."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from marshmallow import Schema

from jobrunner import answers, errors, figures
from jobrunner.api import headers, refusals, schemas
from jobrunner.api.headers import Header
from jobrunner.api.replies import NDJSON
from jobrunner.errors import JobrunnerError
from jobrunner.reports import EventKind

_Kinds = tuple[type[JobrunnerError], ...]

#: what any request may be answered with
ALWAYS: Final[_Kinds] = (refusals.InvalidQueryError, refusals.InternalError)
#: what any request may be answered with that not everybody may make: who may, the store knows
WITH_SCOPE: Final[_Kinds] = (
    refusals.TokenMissingError,
    refusals.InvalidTokenError,
    refusals.InsufficientScopeError,
    refusals.ForeignSiteError,
    errors.SchemaVersionError,
    errors.StoreUnavailableError,
)
#: what any request with a body may be answered with
WITH_BODY: Final[_Kinds] = (
    errors.InvalidRequestError,
    errors.NotJsonError,
    errors.InvalidFieldsError,
    refusals.BodyTooSlowError,
    refusals.BodyTooLargeError,
    refusals.UnsupportedMediaTypeError,
)
_SUBMITTING: Final[_Kinds] = (
    errors.UnknownTaskError,
    refusals.NoTasksError,
    errors.TooManyQueuesError,
    refusals.InvalidIdempotencyKeyError,
    refusals.IdempotencyMismatchError,
    refusals.ParamsTooLargeError,
    errors.QueueFullError,
)
_OK, _ACCEPTED, _NONE = HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT


class Text(NamedTuple):
    """An answer that is not JSON; of events, `schema` describes each as its fields."""

    media_type: str
    description: str
    schema: Mapping[str, Any] = {"type": "string"}


class Anything(NamedTuple):
    """An answer that is any JSON."""

    description: str


class Operation(NamedTuple):
    """One route.

    Attributes:
        answers: by status: a TypedDict for JSON, a Text, Anything, or None for no body.  Several of one status are
            different media types.
        refuses: what it may refuse, beside what every route may.
        query: the schema of the query string.
        headers: what it takes beside those that every request may have.
        gives: by status, the headers that tell something.
        body: the schema of the body; of each item, where it is a list.
        example: a body.
        job_id: where in the answer's body the id of a job is, as a JSON pointer.
    """

    answers: tuple[tuple[HTTPStatus, Any], ...]
    refuses: _Kinds = ()
    query: type[Schema] = schemas.NoQuery
    headers: tuple[Header, ...] = ()
    gives: Mapping[HTTPStatus, tuple[Header, ...]] = {}
    body: type[Schema] | None = None
    is_list: bool = False
    body_required: bool = True
    example: Any = None
    job_id: str | None = None


_EXAMPLE: Final = {"task": "examples.primes", "params": {"n": 100_000}, "labels": {"who": "me"}}
_PREFER, _KEY = headers.PREFER, headers.IDEMPOTENCY_KEY
_APPLIED, _LATER = headers.PREFERENCE_APPLIED, headers.RETRY_AFTER
_EVENT: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"enum": [*EventKind, "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}
_PAGE: Final = Text("text/html", "The same as a page, for a browser.")
_NO_JOB: Final = (errors.JobNotFoundError, refusals.PathNotFoundError)
_UNCHANGED: Final = (HTTPStatus.NOT_MODIFIED, None)

OPERATIONS: Final[Mapping[str, Operation]] = {
    "index.show_index": Operation(((_OK, answers.Index), (_OK, _PAGE))),
    "index.list_problems": Operation(((_OK, answers.ProblemKinds), (_OK, _PAGE))),
    "index.show_problem": Operation(
        ((_OK, Text("text/plain", "What the problem means, and what to do.")), (_OK, _PAGE)),
        (refusals.PathNotFoundError,),
    ),
    "index.show_openapi": Operation(((_OK, Anything("This document.")),)),
    "submit.submit": Operation(
        ((_ACCEPTED, answers.Job), (_OK, answers.Job)),
        _SUBMITTING,
        query=schemas.WaitQuery,
        headers=(_KEY, _PREFER),
        gives={
            _ACCEPTED: (headers.LOCATION, _LATER, headers.REPLAYED, _APPLIED),
            _OK: (headers.LOCATION, headers.REPLAYED, _APPLIED),
        },
        body=schemas.Submission,
        example=_EXAMPLE,
        job_id="/id",
    ),
    "submit.submit_batch": Operation(
        ((_ACCEPTED, answers.Ids),),
        (*_SUBMITTING, refusals.BatchTooLargeError),
        headers=(_KEY,),
        gives={_ACCEPTED: (headers.REPLAYED,)},
        body=schemas.Submission,
        is_list=True,
        example=[_EXAMPLE, {**_EXAMPLE, "delay_seconds": 60}],
        job_id="/ids/0",
    ),
    "jobs.list_jobs": Operation(
        ((_OK, answers.JobPage),),
        (errors.InvalidCursorError,),
        query=schemas.JobsQuery,
        gives={_OK: (headers.LINK,)},
        job_id="/items/0/id",
    ),
    "jobs.show_job": Operation(
        ((_OK, answers.Job), _UNCHANGED),
        _NO_JOB,
        query=schemas.WaitQuery,
        headers=(headers.IF_NONE_MATCH, _PREFER),
        gives=dict.fromkeys((_OK, HTTPStatus.NOT_MODIFIED), (headers.ETAG, _LATER, _APPLIED)),
    ),
    "jobs.cancel_job": Operation(
        ((_OK, answers.Job), (_ACCEPTED, answers.Job)),
        (*_NO_JOB, refusals.AlreadyFinishedError),
        gives={_ACCEPTED: (_LATER,)},
        body=schemas.Cancellation,
        body_required=False,
        example={"grace_seconds": 2},
    ),
    "jobs.retry_job": Operation(
        ((_ACCEPTED, answers.Job),),
        (*_NO_JOB, errors.WrongStateError, errors.QueueFullError),
        gives={_ACCEPTED: (_LATER,)},
        body=schemas.Retry,
        body_required=False,
        example={"only": "failed"},
    ),
    "jobs.delete_job": Operation(((_NONE, None),), (*_NO_JOB, errors.WrongStateError)),
    "many.list_finished": Operation(
        ((_OK, answers.FinishedList),),
        query=schemas.FinishedQuery,
        headers=(_PREFER,),
        gives={_OK: (_APPLIED,)},
    ),
    "many.cancel_queued": Operation(
        ((_OK, answers.Ids),), body=schemas.ManyCancellation, example={"ids": [1, 2]}
    ),
    "history.show_result": Operation(
        (
            (_OK, Anything("What the task returned; of a map job without `reduce`, the list of all values.")),
            (_OK, Text(NDJSON, "Of such a map job, a value on each line.")),
            _UNCHANGED,
        ),
        (*_NO_JOB, refusals.NotFinishedError, refusals.JobFailedError, refusals.TooManyWaitingError),
        query=schemas.WaitQuery,
        headers=(headers.IF_NONE_MATCH, _PREFER),
        gives={
            _OK: (headers.ETAG, _APPLIED),
            HTTPStatus.NOT_MODIFIED: (headers.ETAG, _LATER, _APPLIED),
            HTTPStatus.CONFLICT: (_LATER, _APPLIED),
        },
    ),
    "history.list_partials": Operation(
        (
            (_OK, answers.Partials),
            (_OK, Text(NDJSON, "A partial result on each line, also those that come.")),
        ),
        (*_NO_JOB, refusals.AttemptNotFoundError, refusals.TooManyWaitingError),
        query=schemas.PartialsQuery,
        headers=(_PREFER,),
        gives={_OK: (_LATER, _APPLIED)},
    ),
    "items.list_items": Operation(
        (
            (_OK, answers.ItemPage),
            (_OK, Text(NDJSON, "An item on each line, all that there are now.")),
        ),
        (*_NO_JOB, refusals.NoMapJobError, refusals.TooManyWaitingError),
        query=schemas.ItemsQuery,
        gives={_OK: (_LATER,)},
    ),
    "history.show_log": Operation(
        ((_OK, Text("text/plain", "What was printed.")),),
        (*_NO_JOB, refusals.AttemptNotFoundError, refusals.TooManyWaitingError),
        query=schemas.LogQuery,
        gives={_OK: (_LATER,)},
    ),
    "history.list_attempts": Operation(((_OK, answers.AttemptList),), _NO_JOB, gives={_OK: (_LATER,)}),
    "events.stream_events": Operation(
        ((_OK, Text("text/event-stream", "All that happens to the job.", _EVENT)), (_NONE, None)),
        (*_NO_JOB, refusals.TooManyWaitingError),
        query=schemas.EventsQuery,
        headers=(headers.LAST_EVENT_ID,),
    ),
    "tasks.list_tasks": Operation(((_OK, answers.TaskList),)),
    "tasks.show_task": Operation(
        ((_OK, answers.Task),), (errors.TaskNotFoundError, refusals.PathNotFoundError)
    ),
    "queues.list_queues": Operation(((_OK, answers.QueueList),)),
    "queues.show_queue": Operation(((_OK, answers.Queue),), (errors.QueueNotFoundError,)),
    "queues.change_queue": Operation(
        ((_OK, answers.Queue),),
        (errors.QueueNotFoundError,),
        body=schemas.QueueChange,
        example={"paused": True},
    ),
    "stats.show_stats": Operation(((_OK, figures.Stats),)),
    "stats.show_series": Operation(((_OK, figures.Series),), query=schemas.SeriesQuery),
    "metrics.show_metrics": Operation(
        (
            (_OK, Text("application/openmetrics-text", "Counts and gauges.")),
            (_OK, Text("text/plain", "The same for an older Prometheus.")),
        )
    ),
    "health.show_alive": Operation(((_OK, answers.Aliveness),)),
    "health.show_ready": Operation(((_OK, answers.Readiness),), (refusals.NotReadyError,)),
}
