"""What jobs and their attempts look like as JSON.  Texts that are JSON already are passed on as they are."""

from datetime import datetime
from typing import Any

from msgspec import Raw

from jobrunner.api.situation import Situation, Unseen
from jobrunner.lifecycle import State
from jobrunner.store.attempts import Attempt
from jobrunner.store.jobs import Job


def job_shape(job: Job, situation: Situation | Unseen) -> dict[str, Any]:
    """Return the job as every answer shows it."""
    path = f"/jobs/{job.id}"
    return {
        "id": job.id,
        "task": job.task,
        "params": Raw(job.params),
        "state": job.state,
        "reason": situation.reason(job),
        "progress": _raw(job.progress),
        "partials": job.partials,
        "result": _raw(job.result),
        "error": _raw(job.error),
        "attempt": job.attempt,
        "priority": job.priority,
        "queue": job.queue,
        "labels": Raw(job.labels),
        "timeout": job.timeout_seconds,
        "retries": job.retries,
        "crash_retries": job.crash_retries,
        "memory_limit": job.memory_limit_bytes,
        "created_at": job.created_at,
        "run_at": job.run_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "waited_seconds": _waited_seconds(job, situation.now),
        "ran_seconds": _ran_seconds(job, situation.now),
        "version": job.version,
        "links": {
            "self": path,
            "partials": f"{path}/partials",
            "log": f"{path}/log",
            "events": f"{path}/events",
            "cancel": f"{path}/cancel",
        },
    }


def attempt_shape(attempt: Attempt) -> dict[str, Any]:
    """Return one attempt."""
    return {
        "attempt": attempt.number,
        "dispatcher": attempt.dispatcher_id,
        "worker": attempt.worker,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "outcome": attempt.outcome,
        "error": _raw(attempt.error),
        "peak_memory_bytes": attempt.peak_memory_bytes,
        "cpu_seconds": attempt.cpu_seconds,
    }


def _raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text)


def _waited_seconds(job: Job, now: datetime) -> float:
    """Return how long the job waited, from when it might have run to its present attempt, its end, or now."""
    since = job.created_at if job.run_at is None else max(job.created_at, job.run_at)
    until = job.started_at or job.finished_at or now
    return max(0.0, (until - since).total_seconds())


def _ran_seconds(job: Job, now: datetime) -> float | None:
    """Return how long the job's last attempt has run; None if it waits for one, or has had none."""
    if job.started_at is None or job.state is State.QUEUED:
        return None
    return max(0.0, ((job.finished_at or now) - job.started_at).total_seconds())
