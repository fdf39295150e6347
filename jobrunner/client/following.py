"""Following a job by asking again and again: often while something happens, less while nothing does."""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from jobrunner.client.answers import Job, Partial
from jobrunner.client.client import Client
from jobrunner.client.errors import UnreachableError
from jobrunner.lifecycle import FINAL

FIRST_REST_SECONDS: Final = 0.05
LONGEST_REST_SECONDS: Final = 0.5
_REST_GROWTH: Final = 1.5


class News(NamedTuple):
    """What a look found: the job, and the partial results that came since the look before."""

    job: Job
    partials: list[Partial]

    @property
    def is_last(self) -> bool:
        """Whether nothing more will come, unless somebody asks for a retry."""
        return self.job["state"] in FINAL


class Follower:
    """Looks at one job; each partial result is seen once."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job
        self._after = 0

    def look(self) -> News | None:
        """Return what is new; None if nothing is."""
        first = self._after == 0
        ...
