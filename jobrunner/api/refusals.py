"""What only the API refuses.  As in `jobrunner.errors`, the first line of a docstring is its title."""

from collections.abc import Iterable
from typing import Any

import msgspec

from jobrunner.errors import InvalidRequestError, JobrunnerError, TooLargeError, WrongStateError
from jobrunner.store.jobs import Job
from jobrunner.store.tokens import Scope


class PathNotFoundError(JobrunnerError):
    """There is nothing at this path.

    `GET /` lists what there is.  Job ids are whole numbers from 1.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"nothing is at {path[:200]}; GET / lists what there is")


class MethodNotAllowedError(JobrunnerError):
    """The path does not take this method.

    The answer's `Allow` names those that it takes.
    """

    def __init__(self, method: str, path: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"{path[:200]} takes {self.allowed}, not {method}")


class TokenMissingError(JobrunnerError):
    """The request needs a token.

    Send `Authorization: Bearer TOKEN`.  Whoever runs this service makes tokens: `jobrunner token create`.
    """

    challenge = 'Bearer realm="jobrunner"'

    def __init__(self) -> None:
        super().__init__("send Authorization: Bearer TOKEN")


class InvalidTokenError(JobrunnerError):
    """The token is not in force.

    It was revoked, or was never one; or `Authorization` is not `Bearer` with one token.
    """

    challenge = 'Bearer realm="jobrunner", error="invalid_token"'

    def __init__(self) -> None:
        super().__init__("Authorization has no token that is in force")


class InsufficientScopeError(JobrunnerError):
    """The token is not good for this.

    `read` sees everything; `submit` also submits, cancels and retries jobs; `admin` may do everything.
    """

    def __init__(self, name: str, scope: Scope, needed: Scope) -> None:
        super().__init__(f"the token {name!r} has the scope {scope}, this takes {needed}")
        self.challenge = f'Bearer realm="jobrunner", error="insufficient_scope", scope="{needed}"'


class ForeignSiteError(JobrunnerError):
    """A page of another site may not use this service.

    While there are no tokens, it answers to the name `localhost` and to IP addresses alone, and to no page that
    comes from elsewhere: else any page that is open in a browser on this machine could use it.
    """


class UnsupportedMediaTypeError(JobrunnerError):
    """The body is not sent as JSON.

    Send it as UTF-8, uncompressed, with `Content-Type: application/json`.
    """


class InvalidQueryError(InvalidRequestError):
    """The query string asks for something that is not there.

    `errors` names each query parameter and what it may be.
    """

    def __init__(self, errors: list[dict[str, str]]) -> None:
        """Take one `{"parameter": "limit", "detail": "..."}` for each parameter."""
        super().__init__("; ".join(f"{error['parameter']}: {error['detail']}" for error in errors[:5]))
        self.errors = errors


class InvalidIdempotencyKeyError(InvalidRequestError):
    """The Idempotency-Key is not one.

    It has 1 to 255 visible ASCII characters, in quotation marks or not; a UUID is a good one.
    """


class IdempotencyMismatchError(JobrunnerError):
    """The Idempotency-Key was used for another request.

    The same key and the same body give back the same job.  For something else, take a new key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} was sent before with another body, or to another path")


class NoTasksError(JobrunnerError):
    """No task can be submitted yet.

    No dispatcher has published any: is one running, and is a function in its modules decorated with `@task`?  It
    publishes them once it has imported their modules; send the job again then.
    """

    def __init__(self) -> None:
        super().__init__(
            "no dispatcher has published a task: is one running, and is a function in its modules decorated with @task?"
        )


class BodyTooLargeError(TooLargeError):
    """The request's body is larger than the setting `max_body_bytes` allows.

    Send less at a time.  Large inputs are better kept in a file that the task reads.
    """


class BodyTooSlowError(JobrunnerError):
    """The request's body came too slowly.

    It may rest for some seconds, and for less while many others are as slow.  Send it again, in one go.
    """


class ParamsTooLargeError(TooLargeError):
    """The parameters, as JSON, are larger than the setting `max_params_bytes` allows.

    Large inputs are better kept in a file that the task reads.
    """


class BatchTooLargeError(TooLargeError):
    """The batch has more jobs than the setting `max_batch` allows.

    Nothing was stored.  Send several batches.
    """


class AttemptNotFoundError(JobrunnerError):
    """The job has not had this attempt.

    Attempts are numbered from 1; `GET /jobs/{id}/attempts` lists them.
    """

    def __init__(self, job_id: int, number: int, attempts: int) -> None:
        super().__init__(f"job {job_id} has had {attempts} attempts, there is no attempt {number}")


class NoMapJobError(JobrunnerError):
    """The job is no map job.

    It has no items: `GET /jobs/{id}/partials` shows what it has yielded, `GET /jobs/{id}/result` what it has returned.
    """

    def __init__(self, job_id: int) -> None:
        super().__init__(f"job {job_id} is no map job, and has no items")


class NotFinishedError(JobrunnerError):
    """The job has no result yet.

    Ask again after `Retry-After` seconds.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is {job.state}")
        self.job = job


class JobFailedError(JobrunnerError):
    """The job ended without a result.

    It failed, or it was cancelled; `error` is the job's own account of why.  `POST /jobs/{id}/retry` queues it again.
    """

    def __init__(self, job: Job) -> None:
        kept = ""
        if job.item_count is not None:
            kept = f": GET /jobs/{job.id}/items shows its values, a retry of only the failed items keeps them"
        super().__init__(f"job {job.id} {'was cancelled' if job.error is None else 'failed'}{kept}")
        self.error = None if job.error is None else msgspec.Raw(job.error)


class AlreadyFinishedError(WrongStateError):
    """The job has already finished.

    There is nothing to cancel: `GET /jobs/{id}` shows how it ended.
    """


class TooManyWaitingError(JobrunnerError):
    """As many requests wait, or stream, as may.

    The setting `max_waiting` says how many.  What does not wait is answered as ever.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"max_waiting is {limit}: ask again later, or ask without waiting")


class NotReadyError(JobrunnerError):
    """The service is not ready.

    `checks` has one entry for each thing it needs, with what is wrong: mend that.  What can be answered is answered.
    """

    def __init__(self, checks: list[dict[str, Any]]) -> None:
        super().__init__(
            "; ".join(f"{check['name']}: {check['detail']}" for check in checks if not check["ok"])
        )
        self.checks = checks


class InternalError(JobrunnerError):
    """Something went wrong inside the service.

    It is not the request's fault.  The service's log tells more beside the `correlation_id`.
    """
