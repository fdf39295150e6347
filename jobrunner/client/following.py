"""Following a job by looking again and again: often while something happens, less while nothing does."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from jobrunner.answers import Attempt as AttemptData
from jobrunner.answers import Job as JobData
from jobrunner.answers import Partial as PartialData
from jobrunner.client.client import Client
from jobrunner.client.errors import UnreachableError
from jobrunner.lifecycle import FINAL, State

FIRST_REST_SECONDS: Final = 0.05
LONGEST_REST_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 30.0  #: for an API that is away: it may be about to be started again
_REST_GROWTH: Final = 1.5
_PAGE: Final = 1000


class News(NamedTuple):
    """What a look found: the job, and partial results that no look before it has found, but none of a map job.

    Attributes:
        is_last: nothing more will come, unless somebody asks for a retry.
        ended: attempts that were over and that no look before has found, but for the one that made the job final.
    """

    job: JobData
    partials: list[PartialData]
    is_last: bool
    ended: Sequence[AttemptData] = ()


class Follower:
    """Looks at one job; each of its partial results is found once.

    The values of a map job, of which there may be millions, are left out.
    """

    def __init__(self, client: Client, job_id: int) -> None:
        self._job = client.job(job_id)
        self._seen: tuple[int, str | None] | None = None
        self._seen_partials = 0
        self._after = 0
        self._told_attempts = 0

    def look(self) -> News | None:
        """Return what is new, at most 1000 partial results at a time; None if nothing is."""
        job = self._job.refresh().data  # first: what a final job has yielded is all there
        seen = (job["version"], job["reason"])
        behind = job["map"] is None and job["partials"] > self._seen_partials
        if seen == self._seen and not behind:
            return None
        partials = self._job.partials_so_far(self._after, _PAGE)["items"] if behind else []
        ended = self._newly_ended(job)
        # From here on nothing is asked: what a look that failed has found is found again.
        if partials:
            self._after = partials[-1]["seq"]
            self._seen_partials += len(partials)
        self._told_attempts += len(ended)
        self._seen = seen
        is_last = job["state"] in FINAL and (not behind or self._seen_partials >= job["partials"])
        return News(job, partials, is_last, ended)

    def _newly_ended(self, job: JobData) -> list[AttemptData]:
        over = job["attempt"] - (job["state"] != State.QUEUED)
        if over <= self._told_attempts:
            return []
        return [one for one in self._job.attempts() if self._told_attempts < one["attempt"] <= over]


def follow(
    *followers: Follower,
    rest: Callable[[float], None] = time.sleep,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Iterator[News]:
    """Yield what is new, of each follower in turn, until all their jobs are final.

    Raises:
        UnreachableError: the API has been away for longer than `patience_seconds`.
    """
    unfinished = list(followers)
    rest_seconds = FIRST_REST_SECONDS
    away_since: float | None = None
    while unfinished:
        rest_seconds = min(rest_seconds * _REST_GROWTH, LONGEST_REST_SECONDS)
        try:
            for follower in tuple(unfinished):
                news = follower.look()
                if news is not None:
                    rest_seconds = FIRST_REST_SECONDS
                    yield news
                    if news.is_last:
                        unfinished.remove(follower)
            away_since = None
        except UnreachableError:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > patience_seconds:
                raise
        if unfinished:
            rest(rest_seconds)
