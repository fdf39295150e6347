"""What each route takes and answers, as data: the OpenAPI document is made of this table and the schemas it names."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from marshmallow import Schema

from jobrunner import answers, errors
from jobrunner.api import refusals, schemas
from jobrunner.errors import JobrunnerError

_Kinds = tuple[type[JobrunnerError], ...]

#: what any request may be answered with
ALWAYS: Final[_Kinds] = (
    refusals.InvalidQueryError,
    refusals.TokenMissingError,
    refusals.InvalidTokenError,
    refusals.InsufficientScopeError,
    refusals.ForeignSiteError,
    refusals.InternalError,
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
    errors.TooManyQueuesError,
    refusals.InvalidIdempotencyKeyError,
    refusals.IdempotencyMismatchError,
    refusals.ParamsTooLargeError,
    errors.QueueFullError,
)
_OK, _ACCEPTED, _NONE = HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT


class Text(NamedTuple):
    """An answer that is not JSON."""

    media_type: str
    description: str


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
        headers: names of request headers that it takes, with what they mean.
        body: the schema of the body; of each item, where it is a list.
    """

    answers: tuple[tuple[HTTPStatus, Any], ...]
    refuses: _Kinds = ()
    query: type[Schema] = schemas.NoQuery
    headers: Mapping[str, str] = {}
    body: type[Schema] | None = None
    is_list: bool = False
    body_required: bool = True


_KEY: Final = {"Idempotency-Key": "The same key and the same body give back the same jobs."}
_PREFER: Final = {"Prefer": "`wait=N`: answer as soon as there is news, after N seconds at the latest."}
_TAG: Final = {"If-None-Match": "The version that is known: it is answered with 304."}
_LAST: Final = {"Last-Event-ID": "The last event that was seen."}
_NO_JOB: Final = (errors.JobNotFoundError, refusals.PathNotFoundError)
_UNCHANGED: Final = (HTTPStatus.NOT_MODIFIED, None)

OPERATIONS: Final[Mapping[str, Operation]] = {
    "index.show_index": Operation(((_OK, answers.Index),)),
    "index.list_problems": Operation(((_OK, answers.ProblemKinds),)),
    "index.show_problem": Operation(
        ((_OK, Text("text/plain", "What the problem means.")),), (refusals.PathNotFoundError,)
    ),
    "index.show_openapi": Operation(((_OK, Anything("This document.")),)),
    "submit.submit": Operation(
        ((_ACCEPTED, answers.Job), (_OK, answers.Job)),
        _SUBMITTING,
        query=schemas.WaitQuery,
        headers=_KEY | _PREFER,
        body=schemas.Submission,
    ),
    "submit.submit_batch": Operation(
        ((_ACCEPTED, answers.Ids),),
        (*_SUBMITTING, refusals.BatchTooLargeError),
        headers=_KEY,
        body=schemas.Submission,
        is_list=True,
    ),
    "jobs.list_jobs": Operation(
        ((_OK, answers.JobPage),), (errors.InvalidCursorError,), query=schemas.JobsQuery
    ),
    "jobs.show_job": Operation(
        ((_OK, answers.Job), _UNCHANGED), _NO_JOB, query=schemas.WaitQuery, headers=_TAG | _PREFER
    ),
    "jobs.cancel_job": Operation(
        ((_OK, answers.Job), (_ACCEPTED, answers.Job)),
        (*_NO_JOB, refusals.AlreadyFinishedError),
        body=schemas.Cancellation,
        body_required=False,
    ),
    "jobs.retry_job": Operation(
        ((_ACCEPTED, answers.Job),), (*_NO_JOB, errors.WrongStateError, errors.QueueFullError)
    ),
    "jobs.delete_job": Operation(((_NONE, None),), (*_NO_JOB, errors.WrongStateError)),
    "many.list_finished": Operation(
        ((_OK, answers.FinishedList),), query=schemas.FinishedQuery, headers=_PREFER
    ),
    "many.cancel_queued": Operation(((_OK, answers.Ids),), body=schemas.ManyCancellation),
    "history.show_result": Operation(
        ((_OK, Anything("What the task returned.")), _UNCHANGED),
        (*_NO_JOB, refusals.NotFinishedError, refusals.JobFailedError),
        query=schemas.WaitQuery,
        headers=_TAG | _PREFER,
    ),
    "history.list_partials": Operation(
        (
            (_OK, answers.Partials),
            (_OK, Text("application/x-ndjson", "A partial result on each line, also those that come.")),
        ),
        (*_NO_JOB, refusals.TooManyWaitingError),
        query=schemas.PartialsQuery,
        headers=_PREFER,
    ),
    "history.show_log": Operation(
        ((_OK, Text("text/plain", "What was printed.")),),
        (*_NO_JOB, refusals.AttemptNotFoundError, refusals.TooManyWaitingError),
        query=schemas.LogQuery,
    ),
    "history.list_attempts": Operation(((_OK, answers.AttemptList),), _NO_JOB),
    "events.stream_events": Operation(
        ((_OK, Text("text/event-stream", "All that happens to the job.")), (_NONE, None)),
        (*_NO_JOB, refusals.TooManyWaitingError),
        query=schemas.EventsQuery,
        headers=_LAST,
    ),
    "tasks.list_tasks": Operation(((_OK, answers.TaskList),)),
    "tasks.show_task": Operation(((_OK, answers.Task),), (errors.TaskNotFoundError,)),
    "queues.list_queues": Operation(((_OK, answers.QueueList),)),
    "queues.show_queue": Operation(((_OK, answers.Queue),), (errors.QueueNotFoundError,)),
    "queues.change_queue": Operation(
        ((_OK, answers.Queue),), (errors.QueueNotFoundError,), body=schemas.QueueChange
    ),
    "stats.show_stats": Operation(((_OK, answers.Stats),)),
    "metrics.show_metrics": Operation(
        (
            (_OK, Text("application/openmetrics-text", "Counts and gauges.")),
            (_OK, Text("text/plain", "The same for an older Prometheus.")),
        )
    ),
    "health.show_alive": Operation(((_OK, answers.Aliveness),)),
    "health.show_ready": Operation(((_OK, answers.Readiness),), (refusals.NotReadyError,)),
}
