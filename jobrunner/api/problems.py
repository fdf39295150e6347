"""From errors to answers: problem+json (RFC 9457) for whatever goes wrong.

This is the only place that knows which HTTP status an error has; views raise and never catch.
"""

import logging
import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from jobrunner import errors
from jobrunner.api import refusals
from jobrunner.api.replies import one_line, seconds_until_news
from jobrunner.clock import utc_now

_log = logging.getLogger(__name__)

# fmt: off
STATUS: Final[Mapping[type[errors.JobrunnerError], HTTPStatus]] = {
    errors.InvalidRequestError:           HTTPStatus.BAD_REQUEST,
    errors.NotJsonError:                  HTTPStatus.BAD_REQUEST,
    errors.InvalidCursorError:            HTTPStatus.BAD_REQUEST,
    refusals.InvalidQueryError:           HTTPStatus.BAD_REQUEST,
    refusals.InvalidIdempotencyKeyError:  HTTPStatus.BAD_REQUEST,
    refusals.TokenMissingError:           HTTPStatus.UNAUTHORIZED,
    refusals.InvalidTokenError:           HTTPStatus.UNAUTHORIZED,
    refusals.InsufficientScopeError:      HTTPStatus.FORBIDDEN,
    refusals.ForeignSiteError:            HTTPStatus.FORBIDDEN,
    refusals.PathNotFoundError:           HTTPStatus.NOT_FOUND,
    errors.JobNotFoundError:              HTTPStatus.NOT_FOUND,
    errors.TaskNotFoundError:             HTTPStatus.NOT_FOUND,
    errors.QueueNotFoundError:            HTTPStatus.NOT_FOUND,
    refusals.AttemptNotFoundError:        HTTPStatus.NOT_FOUND,
    refusals.MethodNotAllowedError:       HTTPStatus.METHOD_NOT_ALLOWED,
    refusals.BodyTooSlowError:            HTTPStatus.REQUEST_TIMEOUT,
    errors.WrongStateError:               HTTPStatus.CONFLICT,
    refusals.AlreadyFinishedError:        HTTPStatus.CONFLICT,
    refusals.NoMapJobError:               HTTPStatus.CONFLICT,
    refusals.NotFinishedError:            HTTPStatus.CONFLICT,
    refusals.JobFailedError:              HTTPStatus.CONFLICT,
    refusals.BodyTooLargeError:           HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    refusals.ParamsTooLargeError:         HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    refusals.BatchTooLargeError:          HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    refusals.UnsupportedMediaTypeError:   HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.InvalidFieldsError:            HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownTaskError:              HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooManyQueuesError:            HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.IdempotencyMismatchError:    HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.InternalError:               HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.QueueFullError:                HTTPStatus.SERVICE_UNAVAILABLE,
    refusals.NoTasksError:                HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SchemaVersionError:            HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreUnavailableError:         HTTPStatus.SERVICE_UNAVAILABLE,
    refusals.TooManyWaitingError:         HTTPStatus.SERVICE_UNAVAILABLE,
    refusals.NotReadyError:               HTTPStatus.SERVICE_UNAVAILABLE,
}
# fmt: on

#: No request can cause these; should one of them get this far, it is answered as an internal error.
INTERNAL: Final[frozenset[type[errors.JobrunnerError]]] = frozenset(
    {
        errors.JobrunnerError,
        errors.TooLargeError,
        errors.StoreError,
        errors.TokenNameError,
        errors.StaleAttemptError,
        errors.LeaseLostError,
        errors.TaskDefinitionError,
        errors.DuplicateTaskError,
        errors.TaskModulesError,
        errors.UnserializableError,
        errors.SettingError,
        errors.PoolBrokenError,
    }
)

RETRY_AFTER_SECONDS: Final[Mapping[type[errors.JobrunnerError], int]] = {
    errors.QueueFullError: 5,
    refusals.NoTasksError: 2,
    errors.StoreUnavailableError: 1,
    errors.SchemaVersionError: 60,
    refusals.TooManyWaitingError: 2,
    refusals.NotReadyError: 1,
}


def slug(kind: type[errors.JobrunnerError]) -> str:
    """Return the last part of a problem's `type`: `job-not-found` for a JobNotFoundError."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__.removesuffix("Error") or "Error").lower()


def title(kind: type[errors.JobrunnerError]) -> str:
    """Return the first line of the error's docstring, without its full stop."""
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")


def register(app: Flask) -> None:
    """Have `app` answer every error as a problem."""
    app.register_error_handler(errors.JobrunnerError, _refused)
    app.register_error_handler(HTTPException, _refused_by_flask)
    app.register_error_handler(Exception, _unexpected)


def _refused(error: errors.JobrunnerError) -> Response:
    kind = type(error)
    if kind not in STATUS:
        return _unexpected(error)
    headers: dict[str, Any] = {}
    if kind in RETRY_AFTER_SECONDS:
        headers["Retry-After"] = RETRY_AFTER_SECONDS[kind]
    members: dict[str, Any] = {}
    match error:
        case errors.InvalidFieldsError() | refusals.InvalidQueryError():
            members["errors"] = error.errors
        case refusals.NotReadyError():
            members["checks"] = error.checks
        case refusals.JobFailedError():
            members["error"] = error.error
        case refusals.NotFinishedError():
            headers["Retry-After"] = seconds_until_news(error.job, utc_now())
        case refusals.TokenMissingError() | refusals.InvalidTokenError() | refusals.InsufficientScopeError():
            headers["WWW-Authenticate"] = error.challenge
        case refusals.MethodNotAllowedError():
            headers["Allow"] = error.allowed
        case errors.StoreError():
            _log.warning("%s %r: %s", request.method, request.path, error)
    return _problem(kind, str(error), headers, **members)


def _refused_by_flask(error: HTTPException) -> Response:
    if isinstance(error, MethodNotAllowed):
        return _refused(
            refusals.MethodNotAllowedError(request.method, request.path, error.valid_methods or ())
        )
    if isinstance(error, NotFound):
        return _refused(refusals.PathNotFoundError(request.path))
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": error.description}
    return _answer(status, body, {})


def _unexpected(error: Exception) -> Response:
    correlation_id = uuid.uuid4().hex
    _log.error(
        "%s %r failed, correlation id %s", request.method, request.path, correlation_id, exc_info=error
    )
    detail = f"the service's log tells more: look for {correlation_id}"
    return _problem(refusals.InternalError, detail, {}, correlation_id=correlation_id)


def _problem(
    kind: type[errors.JobrunnerError], detail: str, headers: dict[str, Any], **members: Any
) -> Response:
    status = STATUS[kind]
    body: dict[str, Any] = {"type": f"/problems/{slug(kind)}", "title": title(kind), "status": status}
    if detail:
        body["detail"] = detail
    return _answer(status, body | members, headers)


def _answer(status: HTTPStatus, body: dict[str, Any], headers: dict[str, Any]) -> Response:
    return Response(one_line(body), status, headers, mimetype="application/problem+json")
