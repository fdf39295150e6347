"""What can go wrong, in the words of jobs.  The first line of each docstring is its title."""

from typing import Any


class JobrunnerError(Exception):
    """Something went wrong."""


# -- the door: what a caller can mend ---------------------------------------------------------


class InvalidRequestError(JobrunnerError):
    """The request does not say what it must.

    It is JSON which nobody could keep, or which two readers could take for two things; or not all of the body came.
    `detail` says what is wrong: mend that, and send it again.
    """


class NotJsonError(InvalidRequestError):
    """The body is not JSON.

    `detail` says where it stops being JSON.  It has to be UTF-8, without NaN and Infinity, without comments.
    """


class InvalidCursorError(InvalidRequestError):
    """The cursor was not made by this list.

    A list's `next` is good for the same list with the same filters alone.  Start again without `after`.
    """

    def __init__(self) -> None:
        super().__init__("take `after` from the `next` of the page before, with the same filters")


class InvalidFieldsError(JobrunnerError):
    """Some fields are not valid.

    `errors` names each by its place in the body, a JSON pointer, and says what it may be.  Nothing was stored.
    """

    def __init__(self, errors: list[dict[str, str]]) -> None:
        """Take one `{"pointer": "#/params/epochs", "detail": "..."}` for each field."""
        super().__init__("; ".join(f"{e['pointer']}: {e['detail']}" for e in errors[:5]))
        self.errors = errors


class UnknownTaskError(InvalidFieldsError):
    """No dispatcher has published this task.

    `GET /tasks` lists those that there are, and the modules that cannot be imported.  A dispatcher publishes its
    tasks when it starts.
    """

    def __init__(self, pointer: str, name: str, known: list[str]) -> None:
        have = ", ".join(known[:20]) or "none"
        super().__init__([{"pointer": pointer, "detail": f"no task is named {name!r}; known: {have}"}])


class TooLargeError(JobrunnerError):
    """A limit on size was met."""


class QueueFullError(JobrunnerError):
    """The queue holds as many jobs as it may.

    Nothing was stored.  Send it again later: `Retry-After` says when.
    """

    def __init__(self, queued: int, limit: int) -> None:
        super().__init__(f"{queued} jobs are queued, max_queued is {limit}: try again later")


# -- jobs and tasks ---------------------------------------------------------------------------


class JobNotFoundError(JobrunnerError):
    """No job has this id.

    There never was one, or it was deleted; final jobs are, after a time.
    """

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}")


class TaskNotFoundError(JobrunnerError):
    """No task has this name.

    `GET /tasks` lists those that there are, and the modules that cannot be imported.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"no dispatcher has published a task named {name!r}")


class QueueNotFoundError(JobrunnerError):
    """There is no such queue.

    A queue is there while it holds jobs or is paused; `GET /queues` lists those that there are.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no queue {name!r}; there is {', '.join(known[:20])}")


class TooManyQueuesError(JobrunnerError):
    """There are as many queues as may be.

    A queue stays as long as its jobs do; to mark jobs, give them labels.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"there are {limit} queues already: take one of them, and mark jobs by labels")


class WrongStateError(JobrunnerError):
    """The job is in a state that does not allow this.

    What is asked for is possible in another state: only a failed or cancelled job can be retried, and only a final
    one deleted.  `GET /jobs/{id}` shows how it stands.
    """

    def __init__(self, job_id: int, state: str, event: str) -> None:
        super().__init__(f"job {job_id} is {state}: cannot {event} it")


class StaleAttemptError(JobrunnerError):
    """The job has moved on from the attempt that speaks."""

    def __init__(self, job_id: int, attempt: int) -> None:
        super().__init__(f"job {job_id} is not in the hands of attempt {attempt} any more")


class TokenNameError(JobrunnerError):
    """The name of a token is taken, unknown, or none."""


# -- the store --------------------------------------------------------------------------------


class StoreError(JobrunnerError):
    """The store cannot be used as it is."""


class SchemaVersionError(StoreError):
    """The store's schema is not the one that this program was written for.

    Whoever runs this service has to look: `detail` names the remedy, mostly `jobrunner db upgrade`.
    """


class StoreUnavailableError(StoreError):
    """The store cannot be written at the moment.

    Nothing was stored, and nothing is lost.  Send it again later.  If it goes on, whoever runs this service has to
    look: the disk may be full, or the file gone; `GET /readyz` tells more.
    """


class LeaseLostError(JobrunnerError):
    """Another dispatcher has given this one up for dead."""

    def __init__(self, dispatcher_id: int) -> None:
        super().__init__(f"dispatcher {dispatcher_id} was given up for dead: its jobs belong to others now")


# -- tasks and settings -----------------------------------------------------------------------


class TaskDefinitionError(JobrunnerError):
    """A function cannot be a task as it is written."""


class DuplicateTaskError(TaskDefinitionError):
    """Two tasks have one name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"two tasks are named {name!r}: {first} and {second}; rename one with @task(name=...)"
        )


class TaskModulesError(JobrunnerError):
    """The task modules cannot be served."""


class UnserializableError(JobrunnerError):
    """A value cannot become JSON."""


class SettingError(JobrunnerError):
    """A setting has a value that is not allowed."""

    def __init__(self, name: str, source: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name} = {value!r} (from {source}): must be {allowed}")


class PoolBrokenError(JobrunnerError):
    """A process that the dispatcher depends on has died."""
