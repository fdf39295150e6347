"""What a worker is handed."""

from typing import NamedTuple


class Code(NamedTuple):
    """The user code that a job process has loaded.

    Attributes:
        generation: grows with each reload; a job process of an older one is replaced before its next job.
        modules: the importable names of the task modules.
    """

    generation: int
    modules: tuple[str, ...]


class Ticket(NamedTuple):
    """One attempt of one job.

    Attributes:
        serial: names the ticket within its dispatcher; a stop is addressed to it.
        params: a JSON object.
    """

    serial: int
    job_id: int
    attempt: int
    task: str
    params: str
    timeout_seconds: float | None
    memory_limit_bytes: int | None
    code: Code


class Limits(NamedTuple):
    """What every job process keeps to; see the settings of the same names."""

    grace_seconds: float
    max_jobs_per_process: int
    max_result_bytes: int
    max_partial_bytes: int
    max_partials_bytes: int
    max_log_bytes: int
