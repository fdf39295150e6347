"""The future of a job."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from jobrunner.client import Job, ProblemError
from jobrunner.lifecycle import State

T = TypeVar("T")

_ALREADY_FINISHED = "/problems/already-finished"


def is_cancelled(job: Job) -> bool:
    """Cancel a job; return False if it has finished before.

    Raises:
        ClientError: the API could not be asked to.
    """
    try:
        job.cancel()
    except ProblemError as problem:
        if problem.type != _ALREADY_FINISHED:
            raise
        return False
    return True


class JobFuture(Future[T]):
    """What a job will come to.

    Unlike other futures it can be cancelled while it runs: `running` tells what the job does, and never keeps
    `cancel` from working.

    Attributes:
        job: the job, as it stood when it was submitted; `refresh` looks again.
    """

    def __init__(self, job: Job, forget: Callable[[int], bool]) -> None:
        """Make it pending.

        Args:
            job: which.
            forget: has nobody resolve it any more; returns whether somebody would have.
        """
        super().__init__()
        self.job = job
        self._forget = forget

    def cancel(self) -> bool:
        """Cancel the job, also if it is running: then it is stopped, with SIGTERM and after a while SIGKILL.

        Returns:
            Whether the call is cancelled.  False: it has finished before.

        Raises:
            ClientError: the API could not be asked to.
        """
        if not self.done():
            if not is_cancelled(self.job):
                return False  # and whoever watches will tell what came of it
            self.become_cancelled()
        return self.cancelled()

    def become_cancelled(self) -> None:
        """Say that the job is cancelled, unless something else was said of it already."""
        if self._forget(self.job.id):
            super().cancel()
            self.set_running_or_notify_cancel()

    def become(self, result: Any, failure: BaseException | None) -> None:
        """Say what came of the job; for the one who watches it."""
        if self.set_running_or_notify_cancel():
            if failure is None:
                self.set_result(result)
            else:
                self.set_exception(failure)

    def running(self) -> bool:
        """Whether the job runs at this moment; asks the API."""
        return not self.done() and self.job.refresh().state is State.RUNNING
