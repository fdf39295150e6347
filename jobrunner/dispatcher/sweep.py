"""One map job at work: which of its items are still to be handed out, and how many at a time."""

import heapq
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from jobrunner import retry
from jobrunner.dispatcher.bundles import AHEAD_SECONDS
from jobrunner.dispatcher.tickets import Chunk, Ran, Ticket
from jobrunner.items import Items
from jobrunner.lifecycle import Ending
from jobrunner.store.maps import Tries, Work
from jobrunner.store.moves import Claimed

CHUNK_SECONDS: Final = 0.18  #: the work in a chunk, as far as can be foreseen
MOST_SECONDS: Final = 0.2  #: after which a chunk begins no further item
LEAST_SECONDS: Final = 0.005  #: of work that is worth a trip, however few items are left
MOST_AT_RISK: Final = 10_000  #: items in a chunk that fail together if it is lost, for none may run twice
SHARES: Final = (
    2  #: of what is left, a worker takes one of so many for each worker: the last ones end together
)


class Sweep:
    """What is left of a map job, in the hands of its dispatcher.

    Attributes:
        served: when it had its turn last; see `Turns`.
        closing: how its attempt is to end before all its items have; None: it goes on.
        in_hand: the chunks that workers have: the index after the last item, by that of the first.
        is_reducing: whether its reduce task runs.
    """

    def __init__(self, claimed: Claimed, work: Work, *, log_bytes: int, now: datetime) -> None:
        self.job = claimed
        self.work = work
        self.served = 0
        self.closing: Ending | None = None
        self.in_hand: dict[int, int] = {}
        self.is_reducing = False
        self._failed = work.failed
        self._is_dropped = False
        self._items = Items.parse(work.spec)
        self._spans = deque(_without(work.missing, sorted(work.tries)))
        self._left = sum(map(len, self._spans))  # items in the spans
        self._tries = dict(work.tries)
        # Items to be tried again, each by itself: (when, item); at once if they are from an earlier attempt.
        self._again: list[tuple[datetime, int]] = [(now, item) for item in sorted(work.tries)]
        self._pace: float | None = None  # seconds that an item takes, as last seen
        self._log_bytes = log_bytes

    @property
    def is_unwanted(self) -> bool:
        """Whether what is in hand of it is of no use: too many items have failed, or its job has moved on."""
        return self._is_dropped or (self._may_fail is not None and self._may_fail < 0)

    @property
    def _may_fail(self) -> int | None:
        """How many more items may fail; None: all."""
        return None if self.work.max_failed is None else self.work.max_failed - self._failed

    @property
    def hands_out_nothing(self) -> bool:
        """Whether its items are left alone from now on."""
        return self.is_unwanted or self.closing is not None

    @property
    def is_short(self) -> bool:
        """Whether a chunk may be claimed ahead: a worker is done with it soon, and all of it may run again."""
        items = 1 if self.work.chunk_size is None else self.work.chunk_size
        return self.work.crash_retries > 0 and self._pace is not None and self._pace * items <= AHEAD_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether no more is handed out and nothing is in hand."""
        is_done = self.hands_out_nothing or not (self._spans or self._again)
        return is_done and not (self.in_hand or self.is_reducing)

    @property
    def may_reduce(self) -> bool:
        """Whether its reduce task is what comes next."""
        return self.work.reduce_task is not None and not self._failed

    def drop(self) -> None:
        """Its job has moved on from this attempt."""
        self._is_dropped = True

    def offers(self, now: datetime) -> bool:
        """Whether it has a chunk for a worker that is free."""
        if self.hands_out_nothing:
            return False
        if self.work.max_parallel is not None and len(self.in_hand) >= self.work.max_parallel:
            return False
        return bool(self._spans) or self._is_due(now)

    def due_at(self) -> datetime | None:
        """Return when an item is tried again; None if none is."""
        return self._again[0][0] if self._again else None

    def _is_due(self, now: datetime) -> bool:
        return bool(self._again) and self._again[0][0] <= now

    def take(self, now: datetime, workers: int) -> Chunk:
        """Return the next chunk, of a job that `offers` one, for one of `workers`."""
        if self._is_due(now):
            item = heapq.heappop(self._again)[1]
            return self._chunk(range(item, item + 1), self._tries.get(item, Tries()))
        span = self._spans.popleft()
        size = self._size(workers)
        if len(span) > size:
            self._spans.appendleft(span[size:])
        taken = span[:size]
        self._left -= len(taken)
        return self._chunk(taken, Tries())

    def _size(self, workers: int) -> int:
        most = MOST_AT_RISK if self.work.crash_retries == 0 else sys.maxsize
        return min(most, self._wanted(workers))

    def _wanted(self, workers: int) -> int:
        if self.work.chunk_size is not None:
            return self.work.chunk_size
        if self._pace is None:  # nobody knows: it may be an hour
            return 1
        pace = max(self._pace, 1e-9)
        fair = max(self._left / (SHARES * workers), LEAST_SECONDS / pace)
        return max(1, int(min(self._seconds(workers) / pace, fair)))

    def _seconds(self, workers: int) -> float:
        # Where all wait for one worker, the next chunk lies ready behind the one in hand: nobody is to wait for both.
        return CHUNK_SECONDS if workers > 1 else CHUNK_SECONDS / 2

    def _chunk(self, span: range, tries: Tries) -> Chunk:
        self.in_hand[span.start] = span.stop
        return Chunk(
            first=span.start,
            item_count=len(span),
            items=self._items.cut(span.start, len(span)),
            seconds=None if self.work.chunk_size is not None else MOST_SECONDS,
            retries=self.work.retries - tries.retries_used,
            crash_retries=self.work.crash_retries - tries.crash_retries_used,
            once=self.work.crash_retries == 0,
            log_bytes=self._log_bytes,
            may_fail=self._may_fail,
        )

    def with_what_is_left(self, ticket: Ticket) -> Ticket:
        """Return a chunk that lay ready as it is handed out: meanwhile others may have printed, or failed."""
        chunk = ticket.chunk and ticket.chunk._replace(log_bytes=self._log_bytes, may_fail=self._may_fail)
        return ticket._replace(chunk=chunk)

    def may_be_open(self, chunk: Chunk) -> bool:
        """Whether a chunk that was handed out before began with the same item."""
        return chunk.first in self._tries

    def put_back(self, chunk: Chunk, at: datetime) -> None:
        """Take back a chunk that was not handed out; if it is an item to be tried again, until this moment."""
        self._put_back(range(chunk.first, self.in_hand.pop(chunk.first)), at)

    def give_back(self, first: int, item: int) -> bool:
        """Take back what a chunk will not come to, from `item` on; return whether that is news."""
        upto = self.in_hand[first]
        if not first < item < upto:
            return False
        self.in_hand[first] = item
        self._spans.appendleft(range(item, upto))
        self._left += upto - item
        return True

    def _put_back(self, span: range, at: datetime) -> None:
        if span.start in self._tries:
            heapq.heappush(self._again, (at, span.start))
        elif span:
            self._spans.appendleft(span)
            self._left += len(span)

    def returned(self, chunk: Chunk, ran: Ran, now: datetime) -> None:
        """Take note of what became of a chunk."""
        self._log_bytes = max(0, self._log_bytes - ran.log_bytes)
        upto = self.in_hand.pop(chunk.first)
        if ran.following < upto:
            self._put_back(range(ran.following, upto), now)
        if ran.following > chunk.first:
            self._pace = ran.item_seconds / (ran.following - chunk.first)
        for one in ran.failed:
            self._failed += one.is_final
            if not one.is_final:
                tries = self._tries.get(one.item, Tries()).after(one.charged)
                self._tries[one.item] = tries
                used = tries.retries_used if one.charged == "retries" else tries.crash_retries_used
                wait = timedelta(seconds=retry.backoff_seconds(used - 1))
                heapq.heappush(self._again, (now + wait, one.item))


def _without(spans: Iterable[range], items: Iterable[int]) -> Iterator[range]:
    """Yield the spans without these items; both are in order."""
    left = deque(items)
    for span in spans:
        rest = span
        while left and left[0] < rest.stop:
            item = left.popleft()
            if item in rest:
                if rest.start < item:
                    yield range(rest.start, item)
                rest = range(item + 1, rest.stop)
        if rest:
            yield rest
