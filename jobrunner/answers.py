"""The shapes of the API's answers: what the API describes in its OpenAPI document, and the client reads.

Times (`at`, and what ends in `_at`) are RFC 3339 in UTC.
"""

from typing import Any, NotRequired, Required, TypedDict


class Progress(TypedDict):
    """How far a job has come, in whatever unit."""

    done: float
    total: float | None
    message: str | None


class Failure(TypedDict, total=False):
    """Why a job failed; `kind` is one of `lifecycle.Ending`."""

    kind: Required[str]
    message: Required[str]
    type: str | None
    traceback: str | None
    signal: str | None
    exit_code: int | None
    oom_killed: bool | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None
    log_tail: str | None


class Reduce(TypedDict):
    """The task that gets the stream of a map job's values as its first parameter, and its other parameters."""

    task: str
    params: dict[str, Any]


class Map(TypedDict):
    """How far a map job has come, counted in items, and what it was asked.

    `done` counts those whose value is kept, `failed` those that are not tried again, `running` those that a worker
    has in hand.  `per_second` is the mean of the last attempt; `eta_seconds` is null while no item goes on: the job's
    `reason` says why.
    """

    items: int
    done: int
    failed: int
    running: int
    per_second: float | None
    eta_seconds: float | None
    max_failed: int | None
    max_parallel: int | None
    chunk_size: int | None
    reduce: Reduce | None


class Job(TypedDict):
    """A job as it stands.  Times are RFC 3339 in UTC, None where the moment has not come.

    `reason` says why a job that is not final stands where it stands.  `version` grows with each event.  `map` is null
    unless it is a map job; `progress` then counts its items.
    """

    id: int
    task: str
    params: dict[str, Any]
    state: str
    reason: str | None
    progress: Progress | None
    map: Map | None
    partials: int
    result: Any
    error: Failure | None
    attempt: int
    priority: int
    queue: str
    labels: dict[str, str]
    timeout: float | None
    retries: int
    crash_retries: int
    memory_limit: int | None
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    waited_seconds: float
    ran_seconds: float | None
    version: int
    links: dict[str, str]


class JobPage(TypedDict):
    """Some jobs of a list; `next` is the `after` of the next page, None on the last."""

    items: list[Job]
    next: str | None


class Partial(TypedDict):
    """A value that the task yielded; `seq` grows along the job's history, with gaps.

    Of a map job it is the value of the item with this `index`, which the values of other jobs do not have.
    """

    seq: int
    attempt: int
    at: str
    value: Any
    index: NotRequired[int]


class Partials(TypedDict):
    """Partial results in order; `complete` means that no more will come after `next_after`."""

    items: list[Partial]
    next_after: int
    complete: bool


class Event(TypedDict, total=False):
    """One entry of a job's history.

    `event` is `state`, `partial`, `progress` or `log`; then `state` (with what led to it), `value` (of a map job with
    the `index` of its item), `progress` or `text` tells it.
    """

    event: Required[str]
    seq: Required[int]
    attempt: Required[int]
    at: Required[str]
    state: str
    value: Any
    index: int
    progress: Progress
    text: str


class Item(TypedDict):
    """An item of a map job that has succeeded, with its `value`, or has failed for good, with its `error`.

    `params` are its own, beside those that all have in common.  `attempt` is the job's, in which it ended so.
    """

    index: int
    state: str
    params: dict[str, Any]
    value: Any
    error: Failure | None
    attempt: int


class ItemPage(TypedDict):
    """Some items in order; `next` is the `after` of the next page, None on the last."""

    items: list[Item]
    next: int | None


class Finished(TypedDict, total=False):
    """A final job, in short; one whose result is long leaves it out."""

    id: Required[int]
    state: Required[str]
    attempt: Required[int]
    result: Any
    error: Required[Failure | None]


class FinishedList(TypedDict):
    """Jobs that are final."""

    items: list[Finished]


class Attempt(TypedDict):
    """One run of a job; what is not known yet is null."""

    attempt: int
    dispatcher: int
    worker: int | None
    started_at: str
    finished_at: str | None
    outcome: str | None
    error: Failure | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None


class AttemptList(TypedDict):
    """Every run of a job, first to last."""

    items: list[Attempt]


class Ids(TypedDict):
    """The jobs that a request has made, in its order, or cancelled."""

    ids: list[int]


class Queue(TypedDict):
    """A queue: `jobs` counts by state; while it is paused, none of its jobs is started."""

    name: str
    paused: bool
    paused_since: str | None
    jobs: dict[str, int]


class QueueList(TypedDict):
    """All queues."""

    items: list[Queue]


class Task(TypedDict):
    """A task that a dispatcher has published; `params` is JSON Schema."""

    name: str
    doc: str
    params: dict[str, Any]
    options: dict[str, Any]


class TaskList(TypedDict):
    """All tasks, and by module why some cannot be imported, in one line."""

    items: list[Task]
    module_errors: dict[str, str]


class Check(TypedDict):
    """One thing that the service needs, and whether it has it."""

    name: str
    ok: bool
    detail: str


class Readiness(TypedDict):
    """Everything that the service needs."""

    ready: bool
    checks: list[Check]


class Aliveness(TypedDict):
    """The API answers."""

    alive: bool


class Endpoint(TypedDict):
    """One thing that the API can do."""

    method: str
    path: str
    does: str


class Index(TypedDict):
    """What the API can do."""

    name: str
    version: str
    endpoints: list[Endpoint]


class ProblemKind(TypedDict):
    """A problem that an answer may name as its `type`."""

    type: str
    title: str
    status: int


class ProblemKinds(TypedDict):
    """Every problem that an answer may name."""

    items: list[ProblemKind]


class FieldError(TypedDict, total=False):
    """What is wrong with one field of a body (`pointer`), or one parameter of the query (`parameter`)."""

    pointer: str
    parameter: str
    detail: Required[str]


class Problem(TypedDict, total=False):
    """Why a request came to nothing (RFC 9457)."""

    type: Required[str]
    title: Required[str]
    status: Required[int]
    detail: str
    errors: list[FieldError]
    checks: list[Check]
    error: Failure | None
    correlation_id: str


class SubmitOptions(TypedDict, total=False):
    """What a submission may say beside task and parameters; what is left out, the task decides.

    `run_at` is RFC 3339, `memory_limit` bytes, `timeout` and `delay_seconds` seconds.
    """

    priority: int
    queue: str
    run_at: str
    delay_seconds: float
    timeout: float
    retries: int
    crash_retries: int
    memory_limit: int
    labels: dict[str, str]


class MapOptions(SubmitOptions, total=False):
    """What a submission of a map job may say beside task, parameters and `map`.

    `reduce` is a task's name, or that with its parameters.
    """

    reduce: str | Reduce
    max_failed: int
    max_parallel: int
    chunk_size: int
