"""What a worker is handed, and what it says when it is done."""

import json
from typing import NamedTuple

from jobrunner.lifecycle import Ending
from jobrunner.retry import CHARGED_TO, Budget


class Code(NamedTuple):
    """The user code that a job process has loaded.

    Attributes:
        generation: grows with each reload; a job process of an older one is replaced before its next job.
        modules: the importable names of the task modules.
    """

    generation: int
    modules: tuple[str, ...]


class Chunk(NamedTuple):
    """Items of a map job that follow each other.

    Attributes:
        first: the index of the first one.
        items: their parameters, as the JSON of an `items.Cut`.
        seconds: after which no further item is begun; None: all are run, however long they take.
        retries: left for each of its items.
        crash_retries: the same.
        once: whether none may be run twice, whatever happens.
        log_bytes: of what they print that may be kept.
        may_fail: how many may fail for good; with one more the job is to fail, and no further item is begun.
            None: all.
    """

    first: int
    item_count: int
    items: str
    seconds: float | None
    retries: int
    crash_retries: int
    once: bool
    log_bytes: int
    may_fail: int | None

    def charged(self, ending: Ending) -> Budget | None:
        """Return which budget pays for a run of an item that ended so; None: none, the item has failed for good."""
        budget = CHARGED_TO.get(ending)
        left = self.retries if budget == "retries" else self.crash_retries
        return budget if left > 0 else None

    @property
    def told(self) -> str:
        """The chunk as a job process reads it: `fatal` is by what an item fails for good."""
        fatal = [one for one in (Ending.EXCEPTION, Ending.UNSERIALIZABLE) if self.charged(one) is None]
        limits = {"seconds": self.seconds, "may_fail": self.may_fail, "fatal": fatal}
        return f'{{"items":{self.items},{json.dumps(limits)[1:]}'


class Ticket(NamedTuple):
    """One attempt of one job, or a part of it: a chunk of a map job's items, or its reduce task.

    Attributes:
        serial: names the ticket within its dispatcher; a stop is addressed to it.
        params: a JSON object.
        reduces: whether the values of the job's items follow it.
    """

    serial: int
    job_id: int
    attempt: int
    task: str
    params: str
    timeout_seconds: float | None
    memory_limit_bytes: int | None
    code: Code
    chunk: Chunk | None = None
    reduces: bool = False

    @property
    def line(self) -> bytes:
        """The ticket as a job process reads it."""
        return self._line("")

    @property
    def is_plain(self) -> bool:
        """Whether it may travel with others: see `gate`."""
        return self.chunk is None and not self.reduces and self.memory_limit_bytes is None

    @property
    def line_ahead(self) -> bytes:
        """The same, where others travel with it; see `gate`."""
        return self._line(f',"serial":{self.serial}')

    def _line(self, more: str) -> bytes:
        head = f'{{"id":{self.job_id},"attempt":{self.attempt},"task":{json.dumps(self.task)}'
        if self.chunk is not None:
            more = f',"chunk":{self.chunk.told}'
        elif self.reduces:
            more = ',"reduces":true'
        return f'{head},"params":{self.params}{more}}}\n'.encode()


class ItemRun(NamedTuple):
    """A run of an item that ended badly; see `reports.ItemFailed`."""

    item: int
    charged: str | None
    is_final: bool


class Ran(NamedTuple):
    """How a ticket was run.

    Attributes:
        seconds: it took.
        following: of a chunk: the index after the last item that was run; the others are given back.
        item_seconds: of a chunk: what these took together.
        failed: of a chunk: what went wrong with which items.
        log_bytes: of a chunk: what they have printed that is kept.
    """

    seconds: float
    following: int = 0
    item_seconds: float = 0.0
    failed: tuple[ItemRun, ...] = ()
    log_bytes: int = 0


class Limits(NamedTuple):
    """What every job process keeps to; see the settings of the same names."""

    grace_seconds: float
    max_jobs_per_process: int
    max_result_bytes: int
    max_partial_bytes: int
    max_partials_bytes: int
    max_log_bytes: int
