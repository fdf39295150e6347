"""The shapes of the API's figures: what `/stats` and `/stats/series` answer; see `answers` for the rest."""

from typing import TypedDict


class Slot(TypedDict):
    """What one worker of a dispatcher does, and has done since the dispatcher started.

    `done` and `failed` count attempts; those that were cancelled or given back are neither.  Of a map job the values
    count in `partials` and its reduce task as an attempt; its items and itself do not.  `peak_memory_bytes` and
    `cpu_seconds` are those of the attempt in hand, None if there is none or it has just begun.
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


class Series(TypedDict):
    """What happened in each step of time, as columns of one length.

    `t` is the end of each step, in seconds since 1970; `done` and `failed` count the attempts that ended in it;
    `queued` is how many jobs waited at its end, null where nobody looked so early; `busy` how many workers were
    busy, in the mean.
    """

    step_seconds: int
    t: list[int]
    done: list[int]
    failed: list[int]
    queued: list[int | None]
    busy: list[float]
