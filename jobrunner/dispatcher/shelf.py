"""The shelf: work that was claimed ahead, for the worker that is done first.

A worker that is done with something short would wait for the store longer than for anything else.  So while all of them
work, a little of what comes next is laid ready.  It is tied to no worker: whoever is free first takes it, and if nobody
will be soon, it goes back to the queue.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from jobrunner.dispatcher.sweep import Sweep
from jobrunner.dispatcher.tickets import Ticket

WORKERS_PER_PLACE: Final = 4  #: it is seldom that more of them are done at the same time
SOON: Final = timedelta(seconds=0.5)  #: a worker that has something short in hand is done with it by then


class Laid(NamedTuple):
    """What a worker takes at a time.

    Attributes:
        tickets: single jobs, or one chunk.
        queues: that they were submitted to.
        sweep: of the chunk.
        is_short: whether a worker is done with it soon.
    """

    tickets: Sequence[Ticket]
    queues: Sequence[str]
    sweep: Sweep | None
    is_short: bool


class Shelf:
    """What lies ready, and which workers are done soon."""

    def __init__(self, workers: int) -> None:
        self._laid: deque[Laid] = deque()
        self._places = math.ceil(workers / WORKERS_PER_PLACE)
        self._soon: dict[
            int, datetime
        ] = {}  # by the first serial of something short that a worker has in hand

    def __len__(self) -> int:
        return len(self._laid)

    def places(self, now: datetime) -> int:
        """Return how much more is to be laid ready: nothing, if nobody is done soon."""
        return max(0, self._places - len(self._laid)) if self._is_one_done_soon(now) else 0

    def goes_back_at(self) -> datetime | None:
        """Return when single jobs go back that no worker has taken; None if there are none."""
        lies_ready = any(laid.sweep is None and laid.is_short for laid in self._laid)
        return max(self._soon.values(), default=None) if lies_ready else None

    def _is_one_done_soon(self, now: datetime) -> bool:
        # The clock may have been set back meanwhile.
        return any(now < until <= now + SOON for until in self._soon.values())

    def lay(self, laid: Laid) -> None:
        """Lay something ready."""
        self._laid.append(laid)

    def take(self, now: datetime) -> Laid:
        """Take what has lain longest, for a worker that begins with it now."""
        laid = self._laid.popleft()
        if laid.is_short:
            self._soon[laid.tickets[0].serial] = now + SOON
        return laid

    def returned(self, ticket: Ticket) -> None:
        """Take note that a worker is done with a ticket."""
        self._soon.pop(ticket.serial, None)

    def unwanted(
        self, now: datetime, free: int, paused: Collection[str], is_unwanted: Callable[[Ticket], bool]
    ) -> list[Ticket]:
        """Return what is to go back: what is of a `paused` queue, a chunk with its sweep, a job that is not wanted.

        If no worker is `free`, and none is done soon, jobs that are short go back too.
        """
        waits = free > 0 or self._is_one_done_soon(now)
        return [
            ticket
            for laid in self._laid
            for ticket, queue in zip(laid.tickets, laid.queues, strict=True)
            if queue in paused
            or (
                laid.sweep.hands_out_nothing
                if laid.sweep is not None
                else is_unwanted(ticket) or (laid.is_short and not waits)
            )
        ]

    def remove(self, tickets: Collection[Ticket]) -> None:
        """Take these off, which have gone back; their sweeps have them again."""
        serials = {ticket.serial for ticket in tickets}
        left = deque[Laid]()
        for laid in self._laid:
            rest = [
                one for one in zip(laid.tickets, laid.queues, strict=True) if one[0].serial not in serials
            ]
            if rest:
                left.append(laid._replace(tickets=[one[0] for one in rest], queues=[one[1] for one in rest]))
        self._laid = left
