"""What a job's surroundings say about it: why it stands where it stands."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

# functools.cached_property takes one lock for all instances, and each thread would wait for all others (until 3.12).
from werkzeug.utils import cached_property

from jobrunner.lifecycle import State
from jobrunner.store import catalogue, dispatchers, items, queues
from jobrunner.store.dispatchers import Dispatcher
from jobrunner.store.items import MapJob
from jobrunner.store.jobs import Job
from jobrunner.store.quick import Source


class Situation:
    """One moment's view, to be asked while its connection is open."""

    def __init__(self, source: Source, *, now: datetime, lease_seconds: float) -> None:
        self._source = source
        self._lease = timedelta(seconds=lease_seconds)
        self.now = now

    def is_fresh(self, dispatcher: Dispatcher) -> bool:
        """Whether the dispatcher's heartbeat is younger than its lease."""
        return self.now - dispatcher.heartbeat_at <= self._lease

    @cached_property
    def _dispatchers(self) -> Collection[int]:
        """Who lives, read only if a job of the answer waits."""
        return [one.id for one in dispatchers.alive(self._source) if self.is_fresh(one)]

    @cached_property
    def _served(self) -> Collection[str]:
        """The tasks that somebody can run."""
        return catalogue.served(self._source, self._dispatchers)

    @cached_property
    def _paused(self) -> Collection[str]:
        return queues.paused(self._source)

    def map_job(self, job: Job) -> MapJob | None:
        """Return what `job` has beside its row if it is a map job.

        Raises:
            JobNotFoundError: it is not there any more.
        """
        return None if job.item_count is None else items.get(self._source, job.id)

    def reason(self, job: Job, map_job: MapJob | None) -> str | None:
        """Return why `job` stands where it stands; None if its state says it all."""
        if job.cancel_grace_seconds is not None:
            return "stopping"
        if job.state is State.RUNNING and map_job is not None:
            return self._reason_of_sweep(job, map_job)
        return self._reason_to_wait(job) if job.state is State.QUEUED else None

    def _reason_to_wait(self, job: Job) -> str:
        if job.due_at is not None and job.due_at > self.now:
            return "backing off" if job.attempt else "scheduled"
        if job.queue in self._paused:
            return "queue paused"
        if job.task in self._served:
            return "waiting for a worker"
        return "no dispatcher has its task" if self._dispatchers else "no dispatcher"

    def _reason_of_sweep(self, job: Job, map_job: MapJob) -> str | None:
        """Return why a map job that runs has none of its items at work; None if they are."""
        if job.queue in self._paused:
            return "queue paused"  # nothing of it is handed out
        return "reducing" if map_job.reduce_task is not None and map_job.done == job.item_count else None


@dataclass(frozen=True)
class Unseen:
    """Stands in for surroundings that cannot be read: the job is known, why it waits is not."""

    now: datetime
    known: MapJob | None

    def map_job(self, _: Job) -> MapJob | None:
        """Return what was known of the job."""
        return self.known

    def reason(self, _job: Job, _map_job: MapJob | None) -> None:
        """Tell nothing."""
