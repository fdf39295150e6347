"""Keeping processes alive: starts each part, starts it again when it dies, stops all when told to.

It knows nothing of what the parts do.  `step` makes what runs match what is wanted and says how long
to rest; `run` repeats it until nothing runs any more.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from jobrunner.cli import children
from jobrunner.cli.signals import Terminal, listening

FIRST_PAUSE_SECONDS: Final = 0.1  #: before a part that died is started again; doubles with each death
LONGEST_PAUSE_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 10.0  #: a part that lived for so long starts again with the first pause
LOOK_SECONDS: Final = 0.05  #: between two looks at whether all is ready
REMIND_SECONDS: Final = 10.0  #: between two words about what is still missing
CANNOT_START: Final = 2  #: the exit status of a part that would fail the same way again

_STOPS: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_HEARD: Final = (*_STOPS, signal.SIGHUP, signal.SIGCHLD)
_NOTHING_DUE_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Part:
    """A process to keep alive.

    Attributes:
        stop_signals: what it is sent at the first, second, ... request to stop; the last is repeated.
            SIGKILL goes to its whole process group.
        takes_hangup: whether a SIGHUP is passed on to it.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
    takes_hangup: bool = False


@dataclass
class _Child:
    """A part, and the process that plays it, if there is one."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause_seconds: float = 0.0
    stops_sent: int = 0

    def send(self, signum: signal.Signals) -> None:
        # Not Popen.send_signal: it reaps, and the pid must stay taken until its group has been killed.
        if self.process is not None:
            (os.killpg if signum is signal.SIGKILL else os.kill)(self.process.pid, signum)

    def pass_on(self, stops: int) -> None:
        """Send the signal of each request to stop that it has not been sent."""
        while self.stops_sent < stops:
            self.send(self.part.stop_signals[min(self.stops_sent, len(self.part.stop_signals) - 1)])
            self.stops_sent += 1

    def death(self) -> int | None:
        """Return how the process died, as `Popen.returncode` has it; None if it lives or there is none.

        What it left behind in its group dies with it: it might hold a port or a lock that its heir needs.
        """
        if self.process is None or not children.has_died(self.process):
            return None
        self.send(signal.SIGKILL)
        status = self.process.wait()
        self.process = None
        return status

    def start_later(self, now: float) -> None:
        doubled = 0.0 if now - self.started_at >= STEADY_SECONDS else 2 * self.pause_seconds
        self.pause_seconds = min(max(FIRST_PAUSE_SECONDS, doubled), LONGEST_PAUSE_SECONDS)
        self.start_at = now + self.pause_seconds


class Supervisor:
    """Keeps parts alive until a signal tells it to stop.

    Attributes:
        status: what to exit with: 0, or not 0 if it gave up.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        missing: Callable[[], str],
        announce: Callable[[], None],
        say: Callable[[str], None],
        stop_seconds: float,
    ) -> None:
        """Start nothing yet.

        Args:
            parts: started in this order.
            missing: says what keeps the whole from being ready; an empty text if nothing does.
            announce: called once, when all is ready.  Until then a part that dies ends it all: somebody
                looks on, and its own words say why.  Afterwards it is started again, for ever.
            say: takes what people should know, a line at a time.
            stop_seconds: from the first request to stop until all that still runs is killed.
        """
        self.status = 0
        self._children = [_Child(part) for part in parts]
        self._missing = missing
        self._announce = announce
        self._say = say
        self._stop_seconds = stop_seconds
        self._terminal = Terminal()
        self._ready = False
        self._remind_at: float | None = None
        self._stops = 0
        self._kill_at: float | None = None

    def run(self) -> int:
        """Keep the parts alive until told to stop, or until one cannot start; return `status`."""
        with listening(_HEARD) as listen:
            rest_seconds = self.step(time.monotonic())
            while rest_seconds is not None:
                self.hear(listen(rest_seconds))
                rest_seconds = self.step(time.monotonic())
        return self.status

    def hear(self, signums: set[int]) -> None:
        """Take note of signals; `step` acts on them."""
        if signums & _STOPS or (signal.SIGHUP in signums and self._terminal.is_gone()):
            self._stops += 1
            if self._stops == 1:
                names = (
                    " and ".join(child.part.name for child in self._children if child.process) or "nothing"
                )
                self._say(f"stopping {names}; again to wait for nothing that still runs")
        elif signal.SIGHUP in signums:
            for child in self._children:
                if child.part.takes_hangup:
                    child.send(signal.SIGHUP)

    def step(self, now: float) -> float | None:
        """Make what runs match what is wanted.

        Returns:
            For how many seconds nothing needs to be done, unless a signal comes; None when all is over.
        """
        for child in self._children:
            self._notice_death(child, now)
        if self._stops:
            return self._stop_all(now)
        for child in self._children:
            if child.process is None and child.start_at <= now:
                self._start(child, now)
        if not self._ready:
            self._look(now)
            return LOOK_SECONDS
        due = [child.start_at - now for child in self._children if child.process is None]
        return max(0.0, min(due, default=_NOTHING_DUE_SECONDS))

    def _notice_death(self, child: _Child, now: float) -> None:
        status = child.death()
        if status is not None and not self._stops:
            self._start_again(child, now, children.described(status), for_good=status == CANNOT_START)

    def _start(self, child: _Child, now: float) -> None:
        child.started_at = now
        try:
            child.process = children.start(child.part.command, child.part.environ)
        except OSError as error:  # no memory, too many processes, or the program is just being replaced
            self._start_again(child, now, str(error), for_good=False)

    def _start_again(self, child: _Child, now: float, why: str, *, for_good: bool) -> None:
        if for_good or not self._ready:
            self._say(f"{child.part.name} cannot start ({why}): giving up")
            self.status = CANNOT_START if for_good else 1
            self._stops += 1
            return
        child.start_later(now)
        self._say(f"{child.part.name} died ({why}): starting it again in {child.pause_seconds:g} s")

    def _look(self, now: float) -> None:
        missing = self._missing()
        if not missing:
            self._ready = True
            self._announce()
        elif self._remind_at is None or now >= self._remind_at:
            if self._remind_at is not None:
                self._say(f"not ready yet: {missing}")
            self._remind_at = now + REMIND_SECONDS

    def _stop_all(self, now: float) -> float | None:
        if all(child.process is None for child in self._children):
            return None
        if self._kill_at is None:
            self._kill_at = now + self._stop_seconds
        for number, child in enumerate(self._children):
            later = self._children[number + 1 :]
            # The last part stops first, so that the parts before it show how it drains; asked again, all stop.
            if self._stops > 1 or not any(other.process for other in later):
                child.pass_on(self._stops)
            if now >= self._kill_at:
                child.send(signal.SIGKILL)
        return max(0.0, self._kill_at - now) or LOOK_SECONDS
