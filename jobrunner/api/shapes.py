"""What jobs and their attempts look like as JSON.  Texts that are JSON already are passed on as they are."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw

from jobrunner.api.situation import Situation, Unseen
from jobrunner.lifecycle import State
from jobrunner.store.attempts import Attempt
from jobrunner.store.items import Item, MapJob
from jobrunner.store.jobs import Job


def job_shape(job: Job, situation: Situation | Unseen, map_job: MapJob | None) -> dict[str, Any]:
    """Return the job, with what it has beside its row if it is a map job, as every answer shows it."""
    path = f"/jobs/{job.id}"
    ran_seconds = _ran_seconds(job, situation.now)
    reason = situation.reason(job, map_job)
    return {
        "id": job.id,
        "task": job.task,
        "params": Raw(job.params),
        "state": job.state,
        "reason": reason,
        "progress": _raw(job.progress) if map_job is None else _progress(job, map_job),
        "map": None if map_job is None else _map_shape(job, map_job, ran_seconds, goes_on=reason is None),
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
        "ran_seconds": ran_seconds,
        "version": job.version,
        "links": {
            "self": path,
            "result": f"{path}/result",
            "partials": f"{path}/partials",
            "log": f"{path}/log",
            "events": f"{path}/events",
            "cancel": f"{path}/cancel",
            **({} if map_job is None else {"items": f"{path}/items"}),
        },
    }


def _progress(job: Job, map_job: MapJob) -> dict[str, Any]:
    """Return how far a map job has come, with what was said last."""
    message = None if job.progress is None else msgspec.json.decode(job.progress)["message"]
    return {"done": map_job.done + map_job.failed, "total": job.item_count, "message": message}


def _map_shape(job: Job, map_job: MapJob, ran_seconds: float | None, *, goes_on: bool) -> dict[str, Any]:
    settled = map_job.done + map_job.failed
    per_second = (settled - map_job.before) / ran_seconds if ran_seconds else None
    left = (job.item_count or 0) - settled
    is_going_on = goes_on and job.state is State.RUNNING
    return {
        "items": job.item_count,
        "done": map_job.done,
        "failed": map_job.failed,
        "running": min(map_job.running, left),  # a chunk in hand counts whole
        "per_second": per_second,
        "eta_seconds": left / per_second if per_second and left and is_going_on else None,
        "max_failed": map_job.max_failed,
        "max_parallel": map_job.max_parallel,
        "chunk_size": map_job.chunk_size,
        "reduce": _reduce_shape(map_job),
    }


def _reduce_shape(map_job: MapJob) -> dict[str, Any] | None:
    if map_job.reduce_task is None:
        return None
    return {"task": map_job.reduce_task, "params": _raw(map_job.reduce_params)}


def item_shape(one: Item, params: dict[str, Any]) -> dict[str, Any]:
    """Return an item of a map job, whose parameters these are, beside those that all have in common."""
    has_failed = one.state is State.FAILED
    return {
        "index": one.number,
        "state": one.state,
        "params": params,
        "value": None if has_failed else Raw(one.data),
        "error": Raw(one.data) if has_failed else None,
        "attempt": one.attempt,
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
    """Return how long the job waited, from when it might have run to its last attempt, its end, or now.

    Earlier attempts are part of that.  Of an attempt that runs, `started_at` is its claim: see `store.reports`.
    """
    since = job.created_at if job.run_at is None else max(job.created_at, job.run_at)
    until = job.started_at or job.finished_at or now
    return max(0.0, (until - since).total_seconds())


def _ran_seconds(job: Job, now: datetime) -> float | None:
    """Return how long the job's last attempt has run; None if it waits for one, or has had none."""
    if job.started_at is None or job.state is State.QUEUED:
        return None
    return max(0.0, ((job.finished_at or now) - job.started_at).total_seconds())
