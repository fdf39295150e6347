"""Watching one attempt: from the ticket to how it ended."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from jobrunner import kernel, sizes
from jobrunner.clock import utc_now
from jobrunner.dispatcher.handle import IMPORT_SECONDS, Death, Handle, kill_children
from jobrunner.dispatcher.joblog import JobLog
from jobrunner.dispatcher.lines import Failed, GarbageError, Kind, Used, meaning
from jobrunner.dispatcher.outbox import Outbox
from jobrunner.dispatcher.slots import Slot, Stop, requested_stop
from jobrunner.dispatcher.span import Span, span
from jobrunner.dispatcher.tickets import Limits, Ran, Ticket
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, EventKind, Report, error

TICK_SECONDS: Final = 0.05  #: how often a running attempt is looked at: stop, timeout, memory
SEND_SECONDS: Final = 0.005  #: between two attempts to hand over a ticket that the Pipe does not take at once
DEAF_SECONDS: Final = 1.0  #: a process that closed its Pipe has this long to die by itself
MEASURE_SECONDS: Final = 0.25  #: between two looks at what a job uses that has no memory limit
WEIGH_SECONDS: Final = 1.0  #: between two exact looks at the memory of a job that has children
OOM_SECONDS: Final = 10.0  #: from when the OOM killer chose a process until that is gone, with all its memory
LOG_EVENT_CHARACTERS: Final = 60_000  #: a log travels in pieces of at most this

_SAID: Final = {Kind.PARTIAL.value: EventKind.PARTIAL, Kind.PROGRESS.value: EventKind.PROGRESS}
_LAST: Final = {Kind.RESULT.value, Kind.ERROR.value}


class Attempt:
    """One ticket in the hands of one job process.

    `run` returns when it has ended.  Afterwards `survived` tells whether the job process may be used again.
    """

    def __init__(
        self,
        ticket: Ticket,
        process: Handle,
        *,
        worker: int,
        slot: Slot,
        limits: Limits,
        outbox: Outbox,
        oom: kernel.OomWatch,
        on_tick: Callable[[], None],
        after: Iterator[bytes] | None = None,
    ) -> None:
        self._ticket = ticket
        self._process = process
        self._worker = worker
        self._slot = slot
        self._outbox = outbox
        self._oom = oom
        self._on_tick = on_tick
        self._log = JobLog(limits.max_log_bytes)
        self._grace_seconds = limits.grace_seconds
        self._max_log_bytes = limits.max_log_bytes
        self._unsent = memoryview(ticket.line)
        self._after = after or iter(())  # what is sent after it
        self._used = Used(0.0, process.cpu_seconds, 0)
        self._last: tuple[bytes, Failed | None] | None = None  # what ends the attempt: a line, its meaning
        self._dead = False
        self._death: Death | None = None
        self._garbage = False  # whether it spoke none of our words, and was killed for it
        self._deaf = self._was_deaf = False  # and was killed for it
        self._stop: Stop | None = None
        self._peak_bytes = 0
        now = time.monotonic()
        self._weigh_at = self._measure_at = now
        self._next_tick = now + TICK_SECONDS
        # The job's time begins when its process has imported the task modules, which must not take for ever either.
        self._started = now if process.is_ready else float("inf")
        self._kill_at = float("inf") if process.is_ready else now + IMPORT_SECONDS
        self._said_at: datetime | None = None
        self.survived = True

    def run(self) -> Ended | None:
        """Hand the ticket over and follow it to its end, or return None if its process died before it had begun."""
        self._begin()
        while self._last is None and not self._dead:
            self._hear()
            now = time.monotonic()
            if now >= self._outbox.due_at:
                self._outbox.flush()
            if now >= self._next_tick:
                self._next_tick = now + TICK_SECONDS
                self._tick(now)
        if self._dead and self._last is None and not self._has_begun():
            self.survived = False
            return None
        ended = self._ended()
        self._conclude(ended)
        return ended

    def _begin(self) -> None:
        self._oom.begin()
        self._process.read_output()  # printed by something that an earlier job left running: nobody's log

    def _has_begun(self) -> bool:
        return True

    def ran(self, seconds: float) -> Ran:
        """Return how the ticket was run, which took `seconds`."""
        return Ran(seconds)

    def _conclude(self, ended: Ended) -> None:
        """Say the last word."""
        at = utc_now()
        if not self._ticket.reduces:  # whose job has begun long before
            began_at, at = self._span().by_wall_clock()
            ended = ended._replace(began_at=began_at)
        self._outbox.add(self._report((), ended)._replace(at=max(at, self._said_at or at)))

    def _span(self) -> Span:
        return span(self._used, not_before=self._started, started=self._started)

    # -- hearing -------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Wait for the job process to say, print or be something; take it in."""
        now = time.monotonic()
        until = min(self._next_tick, self._kill_at, self._outbox.due_at)
        if self._outbox.is_stuck:  # its Pipe fills up meanwhile, and that slows the task
            time.sleep(max(0.0, until - now))
            return
        if self._process.pending:
            self._take_lines()
            return
        if not self._unsent:
            self._unsent = memoryview(next(self._after, b""))
            until = now if self._unsent else until  # more may follow
        if self._unsent and self._process.is_ready and self._stop is None:
            self._unsent = self._process.send(self._unsent)
            until = min(until, now + SEND_SECONDS) if self._unsent else until
        for key, _ in self._process.selector.select(max(0.0, until - now)):
            if key.data == "pipe":
                self._read_lines()
            elif key.data == "output":
                self._read_output()
            else:
                self._dead = True
        if self._dead:
            self._bury()  # with all that it started, else a child that it forked may write on for ever
            self._read_what_is_left()

    def _read_lines(self) -> None:
        try:
            self._process.pending += self._process.reader.read()
        except EOFError:  # it dies, or it closed what it must not; either way it cannot be heard any more
            self._process.forget("pipe")
            self._deaf = True
            self._kill_at = min(self._kill_at, time.monotonic() + DEAF_SECONDS)
        except GarbageError:
            self._end_garbage()
        self._take_lines()

    def _take_lines(self) -> None:
        """Take in what was read, up to the attempt's last line: what follows is another's."""
        said: list[tuple[EventKind, str]] = []
        lines = self._process.pending
        try:
            while lines and self._last is None:
                self._take(lines.popleft(), said)
        except GarbageError:
            self._end_garbage()
        if said:
            self._slot.partials += sum(kind is EventKind.PARTIAL for kind, _ in said)
            self._outbox.add(self._report(tuple(said)))

    def _end_garbage(self) -> None:
        self._process.pending.clear()
        self._process.forget("pipe")
        self._garbage = True
        if self._death is None:
            self._process.signal_group(signal.SIGKILL)

    def _take(self, line: bytes, said: list[tuple[EventKind, str]]) -> None:
        letter, meant = line[:1], meaning(line)
        if not self._process.is_ready:
            if letter == Kind.HELLO.value:
                self._process.read_output()
                self._log = JobLog(self._max_log_bytes)
                self._process.has_said(meant)
                self._started = time.monotonic()
                self._kill_at = float("inf") if self._stop is None else self._kill_at
            elif letter != Kind.IMPORTING.value:
                raise GarbageError
        elif letter in _SAID:
            said.append((_SAID[letter], line[1:].decode("ascii")))
        elif letter == Kind.USAGE.value:
            self._used = meant
        elif letter in _LAST:
            self._last = line, meant if isinstance(meant, Failed) else None
        else:
            raise GarbageError

    def _read_output(self) -> None:
        if not self._take_log():  # closed: it would be ready for ever
            self._process.forget("output")

    def _take_log(self) -> bool:
        """Take in what is in the pipe; one read empties it.  Return whether there was anything."""
        data = self._process.read_output()
        self._log.feed(data)
        if self._process.is_ready:  # what its modules print is no job's log, unless they end it
            self._keep_log(self._log.take())
        return bool(data)

    def _keep_log(self, text: str) -> None:
        for start in range(0, len(text), LOG_EVENT_CHARACTERS):
            piece = (EventKind.LOG, text[start : start + LOG_EVENT_CHARACTERS])
            self._outbox.add(self._report((piece,)))

    def _read_what_is_left(self) -> None:
        """Take in what a process that is dead by now had said before."""
        self._take_lines()
        while self._last is None and any(key.data == "pipe" for key, _ in self._process.selector.select(0)):
            self._read_lines()

    def _bury(self) -> Death:
        """Kill the process with all that it has started; return how it ended."""
        if self._death is None:
            self._death = self._process.kill()
            kill_children()
        return self._death

    # -- looking -------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._on_tick()
        self._oom.look()
        if now >= self._kill_at:
            self._was_deaf = self._deaf and self._stop is None
            self._process.signal_group(signal.SIGKILL)
            self._kill_at = now + TICK_SECONDS
            return
        if self._stop is None:
            self._stop_if_asked(now)
        limit = self._ticket.memory_limit_bytes
        if limit is None and now < self._measure_at:
            return
        self._measure_at = now + MEASURE_SECONDS
        memory_bytes = self._measured(now)
        if limit and memory_bytes > limit and self._process.is_ready:
            # At once, without grace: every moment brings it nearer to the kernel's own choice of a victim.
            self._begin_stop(Stop(Ending.MEMORY_LIMIT, 0.0), now)

    def _measured(self, now: float) -> int:
        """Return the memory of all that the job runs, and leave in the slot what was seen."""
        # A worker has no other descendants, and none escapes it: it adopts those whose parent has ended.
        below = kernel.descendants(os.getpid())
        used = kernel.usage(below)
        memory_bytes = used.resident_bytes
        limit = self._ticket.memory_limit_bytes or float("inf")
        several = len(below) > 1 and memory_bytes > self._peak_bytes
        if memory_bytes > limit or (several and now >= self._weigh_at):
            self._weigh_at = now + WEIGH_SECONDS
            memory_bytes = kernel.proportional_bytes(below)
            several = False
        if not several:  # else they may share some, and it is not the time to look
            self._peak_bytes = max(self._peak_bytes, memory_bytes)
        self._slot.peak_memory_bytes = self._peak_bytes
        self._slot.cpu_seconds = max(0.0, used.cpu_seconds - self._process.cpu_seconds)
        return memory_bytes

    def _stop_if_asked(self, now: float) -> None:
        timeout = self._ticket.timeout_seconds
        wish = requested_stop(self._slot)
        if wish is not None:
            self._begin_stop(wish, now)
        elif timeout is not None and now - self._started >= timeout:
            self._begin_stop(Stop(Ending.TIMEOUT, self._grace_seconds), now)

    def _begin_stop(self, stop: Stop, now: float) -> None:
        # Where the task has not begun there is nothing to be graceful about.
        self._stop = stop = stop if self._process.is_ready else stop._replace(grace_seconds=0.0)
        self._kill_at = min(self._kill_at, now + stop.grace_seconds)
        self._next_tick = min(self._next_tick, self._kill_at)
        self._process.signal_group(signal.SIGTERM if stop.grace_seconds > 0 else signal.SIGKILL)

    # -- telling -------------------------------------------------------------------------------

    def _report(self, said: tuple[tuple[EventKind, str], ...], ended: Ended | None = None) -> Report:
        at = utc_now()
        if said:
            self._said_at = at
        return Report(self._ticket.job_id, self._ticket.attempt, at, said, ended)

    def _ended(self) -> Ended:
        # A process that was told to stop and answers all the same is not trusted with another job.
        self.survived = not self._dead and self._stop is None and not self._garbage
        death = None if self.survived else self._bury()
        self._take_log()  # all that was printed before the last line or the death is in the pipe by now
        self._keep_log(self._log.finish())
        if death is not None:
            return self._ended_by_death(death)
        self._process.cpu_seconds = self._used.process_cpu_seconds
        peak = max(self._used.peak_memory_bytes, self._peak_bytes)
        self._process.peak_bytes = max(self._process.peak_bytes, peak)
        return self._ended_by_word(self._used.cpu_seconds, peak)

    def _ended_by_word(self, cpu_seconds: float, peak_bytes: int) -> Ended:
        """Return what the attempt's last line says."""
        line, failed = self._last or (b"", None)
        used: dict[str, Any] = {"peak_memory_bytes": peak_bytes or None, "cpu_seconds": cpu_seconds}
        if failed is None:
            return Ended(Ending.SUCCEEDED, result=line[1:].decode("ascii"), worker=self._worker, **used)
        ending = Ending(failed.kind)
        more = {"type": failed.type, "traceback": failed.traceback, "log_tail": self._log.tail}
        return Ended(ending, error=error(ending, failed.message, **more, **used), worker=self._worker, **used)

    def _ended_by_death(self, death: Death) -> Ended:
        # The peak of the whole process is this attempt's only if it is above those of the jobs before.
        higher = death.peak_memory_bytes > self._process.peak_bytes
        peak = max(self._peak_bytes, death.peak_memory_bytes if higher else 0)
        # The last look at it has seen children too that nobody has waited for.
        cpu_seconds = max(self._slot.cpu_seconds, death.cpu_seconds - self._process.cpu_seconds)
        if self._last is not None and (self._stop is None or self._stop.ending is Ending.RELEASED):
            return self._ended_by_word(cpu_seconds, peak)  # it answered, and died then, or just in time
        ending = Ending.CRASHED if self._stop is None else self._stop.ending
        used: dict[str, Any] = {"peak_memory_bytes": peak or None, "cpu_seconds": cpu_seconds}
        if ending in (Ending.CANCELLED, Ending.RELEASED):
            return Ended(ending, worker=self._worker, **used)
        by_another = ending is Ending.CRASHED and not (self._was_deaf or self._garbage)
        killed = by_another and death.signal == "SIGKILL"
        oom_killed = self._oom.struck(OOM_SECONDS) if killed else None
        how = {"signal": death.signal, "exit_code": death.exit_code, "oom_killed": oom_killed}
        why = self._why(ending, death.in_words(oom_killed=bool(oom_killed)))
        told = error(ending, why, log_tail=self._log.tail, **how, **used)
        return Ended(ending, error=told, worker=self._worker, **used)

    def _why(self, ending: Ending, how_it_died: str) -> str:
        if ending is Ending.TIMEOUT:
            return f"it ran past its timeout of {self._ticket.timeout_seconds:g} s"
        if ending is Ending.MEMORY_LIMIT:
            limit = sizes.in_words(self._ticket.memory_limit_bytes or 0)
            return f"it used {sizes.in_words(self._peak_bytes)}, its memory_limit is {limit}"
        if self._garbage:
            return "it spoke garbage on its Pipe: does the task write to descriptors that it did not open?"
        if self._was_deaf:
            return "its process closed the Pipe to its worker: does the task close descriptors that it did not open?"
        return how_it_died
