"""Watching an attempt whose ticket its job process was given ahead, with others: see `gate`.

As long as all goes fast, the worker only takes in answers: an attempt is watched for a moment, and when it is heard to
have ended, so have many after it, which `answer` takes.  At its first look around it takes back what has not begun;
from then on the one ticket that has begun is all that the job process runs, and is stopped, timed and limited as any.
"""

import time
from typing import Any, Final

from jobrunner.dispatcher.attempt import Attempt
from jobrunner.dispatcher.handle import Death, Handle
from jobrunner.dispatcher.lines import GarbageError, Kind, meaning
from jobrunner.dispatcher.slots import requested_stop
from jobrunner.dispatcher.span import Span, span
from jobrunner.dispatcher.tickets import Ran, Ticket
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, Report

BREATH_SECONDS: Final = (
    0.0005  #: between two looks at what was answered: each costs a trip, whatever it brings
)

PATIENCE_SECONDS: Final = (
    0.2  #: until the first look around, unless tickets are brief: it takes the others back
)

_USAGE: Final = Kind.USAGE.value
_RESULT: Final = Kind.RESULT.value


def answer(ticket: Ticket, process: Handle, worker: int) -> tuple[Report, Ran] | None:
    """Take the answer to a ticket that was read together with those before it.

    Return None, and take nothing, if the ticket must be watched: it has no answer yet, has printed, failed, or said
    more than its result.
    """
    said = process.pending
    if len(said) < 2 or said[0][:1] != _USAGE or said[1][:1] != _RESULT or not process.has_ahead(ticket):
        return None
    try:
        used, _ = meaning(said[0]), meaning(said[1])
    except GarbageError:
        return None
    if used.printed:
        return None
    said.popleft()
    result = said.popleft()[1:].decode("ascii")
    process.cpu_seconds = used.process_cpu_seconds
    process.peak_bytes = max(process.peak_bytes, used.peak_memory_bytes)
    peak = used.peak_memory_bytes or None
    ran = span(used, not_before=process.ahead_since, started=process.ahead_since)
    began_at, ended_at = ran.by_wall_clock()
    ended = Ended(Ending.SUCCEEDED, result, None, worker, peak, used.cpu_seconds, began_at)
    return Report(ticket.job_id, ticket.attempt, ended_at, (), ended), Ran(ran.seconds)


class AheadAttempt(Attempt):
    """One of several tickets that a job process has in hand."""

    def __init__(self, ticket: Ticket, process: Handle, *, is_brief: bool, **rest: Any) -> None:
        super().__init__(ticket, process, **rest)
        self._is_brief = is_brief  # whether it pays to let answers gather
        patience = 0.0 if is_brief else min(PATIENCE_SECONDS, ticket.timeout_seconds or PATIENCE_SECONDS)
        self._patient_until = time.monotonic() + patience
        self._unsent = memoryview(b"")
        self._is_overdue = False
        self._is_alone = False  # whether it was given back, and handed over anew

    def run(self) -> Ended | None:
        """Follow the ticket to its end; None: its process died before it had begun."""
        return super().run()

    def ran(self, seconds: float) -> Ran:
        """Return how long it took by the clock of its process: here its answer may have waited."""
        return Ran(self._span().seconds if self._used.began else seconds)

    def _span(self) -> Span:
        return span(self._used, not_before=self._process.ahead_since, started=self._started)

    def _begin(self) -> None:
        if self._process.is_withdrawn and self._is_begun_last:
            self._process.hear_output()

    def _has_begun(self) -> bool:
        return self._is_alone or self._process.gate.begun >= self._ticket.serial

    @property
    def _is_begun_last(self) -> bool:
        return self._process.gate.begun == self._ticket.serial

    def _hear(self) -> None:
        if self._is_brief and not (self._process.pending or self._process.is_withdrawn):
            time.sleep(BREATH_SECONDS)
        super()._hear()

    def _take(self, line: bytes, said: list[Any]) -> None:
        if line[:1] != Kind.WITHDRAWN.value:
            super()._take(line, said)
        elif meaning(line) == self._ticket.serial:
            self._send_again()
        elif not self._process.is_withdrawn:
            raise GarbageError

    def _read_output(self) -> None:
        if self._last is not None:  # what this one has printed, its process waits for us to read
            return
        if self._take_back():  # else whoever comes next might print while this is read: whose would it be?
            super()._read_output()
        else:
            self._process.ignore_output()

    def _take_log(self) -> bool:
        is_certain = self._process.is_withdrawn or self._dead
        mine = self._used.printed or self._is_alone or (is_certain and self._is_begun_last)
        return super()._take_log() if mine else False

    def _ended_by_death(self, death: Death) -> Ended:
        if self._last is None:
            return super()._ended_by_death(death)
        self._process.cpu_seconds = self._used.process_cpu_seconds  # the rest is that of those after it
        return self._ended_by_word(self._used.cpu_seconds, self._used.peak_memory_bytes)

    def _tick(self, now: float) -> None:
        if now < self._patient_until and requested_stop(self._slot) is None:
            return
        if not self._take_back():
            if not self._is_overdue:
                self._is_overdue = True  # its answer is on its way
                self._on_tick()
                return
            self._is_alone = True  # no, somebody has written over the gate
        self._process.hear_output()
        super()._tick(now)

    def _take_back(self) -> bool:
        """Take back what has not begun; return whether this ticket is the one that its process has in hand."""
        begun, serial = self._process.withdraw(), self._ticket.serial
        if begun < serial and not self._is_alone:
            self._send_again()
        elif begun == serial:
            self._started = min(time.monotonic(), max(self._started, self._process.gate.since))
        return self._is_alone or begun == serial

    def _send_again(self) -> None:
        """Hand it over as a ticket that travels alone."""
        self._is_alone = True
        self._process.read_output()  # nobody's, as in `Attempt`: who has printed waits until it is read
        self._unsent = memoryview(self._ticket.line)
        self._started = time.monotonic()
