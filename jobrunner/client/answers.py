"""The shapes of the API's answers."""

from typing import Any, Required, TypedDict


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


class Job(TypedDict):
    """A job as it stands.  Times are RFC 3339 in UTC, None where the moment has not come.

    `reason` says why a job that is not final stands where it stands.  `version` grows with each event.
    """

    id: int
    task: str
    params: dict[str, Any]
    state: str
    reason: str | None
    progress: Progress | None
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
    """A value that the task yielded; `seq` grows along the job's history, with gaps."""

    seq: int
    attempt: int
    at: str
    value: Any


class Partials(TypedDict):
    """Partial results in order; `complete` means that no more will come after `next_after`."""

    items: list[Partial]
    next_after: int
    complete: bool


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


class Slot(TypedDict):
    """What one worker of a dispatcher does, and has done since the dispatcher started.

    `peak_memory_bytes` and `cpu_seconds` are those of the attempt in hand, None if there is none or it has just begun.
    """

    worker: int
    pid: int
    process_pid: int
    job_id: int | None
    attempt: int | None
    done: int
    failed: int
    partials: int
    busy_seconds: float
    peak_memory_bytes: int | None
    cpu_seconds: float | None


class Dispatcher(TypedDict):
    """A dispatcher, as its last heartbeat left it."""

    id: int
    host: str
    pid: int
    started_at: str
    heartbeat_age_seconds: float
    alive: bool
    workers: int
    slots: list[Slot]


class Rates(TypedDict):
    """Means over the last `minutes`."""

    minutes: int
    done_per_second: float
    failed_per_second: float
    partials_per_second: float
    busy_workers: float


class Stats(TypedDict):
    """How much waits and how much gets done; `jobs` counts them by state."""

    at: str
    jobs: dict[str, int]
    oldest_queued_seconds: float | None
    rates: list[Rates]
    dispatchers: list[Dispatcher]


class Check(TypedDict):
    """One thing that the service needs, and whether it has it."""

    name: str
    ok: bool
    detail: str


class Readiness(TypedDict):
    """Everything that the service needs."""

    checks: list[Check]


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
