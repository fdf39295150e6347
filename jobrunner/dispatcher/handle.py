"""The worker's handle on its job process: starting it, hearing it, killing it with all that it started."""

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from typing import Final, NamedTuple

from jobrunner import kernel
from jobrunner.dispatcher.lines import READ_BYTES, GarbageError, Hello, Kind, LineReader, meaning
from jobrunner.dispatcher.tail import Tail
from jobrunner.dispatcher.tickets import Code, Limits, Ticket

IMPORT_SECONDS: Final = 120.0  #: for all task modules together
GREETING_BYTES: Final = 4096  #: of what is printed while they are imported
REAP_SECONDS: Final = 2.0  #: for what a dead job process leaves behind to die of SIGKILL
LINE_SPARE_BYTES: Final = (
    4 << 20
)  #: of a line, beside the largest value: for errors, and what tasks are there

OOM_KILLED: Final = (
    "the kernel's OOM killer took its process, for memory ran out: give the task a memory_limit, run fewer workers, "
    "or allow all of them more (MemoryMax of the unit)"
)


class Death(NamedTuple):
    """How a job process ended: by `signal` or with `exit_code`, the other is None; and what it used in all."""

    signal: str | None
    exit_code: int | None
    cpu_seconds: float
    peak_memory_bytes: int

    def in_words(self, *, oom_killed: bool) -> str:
        """Say how it ended, if nobody has told it to."""
        if oom_killed:
            return OOM_KILLED
        if self.signal is None:
            return f"its process ended with exit code {self.exit_code} before the task returned"
        return f"its process was killed by {self.signal}"


class Greeting(NamedTuple):
    """How a job process came up.

    Attributes:
        hello: what it said of itself; None if it died, took too long or spoke garbage.
        importing: the last module that it began to import.
        printed: the end of what it printed meanwhile.
        fault: why it was not heard to the end; None if it came up, or died by itself.
    """

    hello: Hello | None = None
    importing: str | None = None
    printed: bytes = b""
    fault: str | None = None


class Handle:
    """A job process.  It starts at once and needs a moment until it hears; nobody waits for that here."""

    def __init__(self, code: Code, limits: Limits) -> None:
        self.code = code
        self.is_ready = False  #: whether it has said hello
        self.jobs = 0  #: that it was given
        self.cpu_seconds = 0.0  #: that it had used when it last told
        #: the highest peak that its jobs have told of.  At first this process's own, for its memory is the new
        #: process's until exec, and the kernel counts that as its peak.
        self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sizes = (limits.max_result_bytes, limits.max_partial_bytes, limits.max_partials_bytes)
        ours, theirs = Pipe()
        output, printed = os.pipe()
        self.tail, tail = Tail.create()
        try:
            self._popen = _started(code, sizes, theirs.fileno(), tail, printed)
        finally:
            theirs.close()
            os.close(printed)
            os.close(tail)
        self.pid = self._popen.pid
        self._pipe = ours
        self._output = output
        self._pidfd = os.pidfd_open(self.pid)
        os.set_blocking(output, False)
        os.set_blocking(ours.fileno(), False)
        self.reader = LineReader(ours.fileno(), max(sizes[:2]) + LINE_SPARE_BYTES)
        self.pending: deque[bytes] = deque()  #: lines that were read, and that nobody has taken yet
        self.gate = self.tail.gate
        self._ahead_upto = 0  # the serial of the last ticket that was sent ahead
        self.ahead_since = 0.0  #: when these were, by `time.monotonic`
        self.is_withdrawn = True  #: whether no ticket may begin that was sent ahead
        self.hears_output = True  #: whether what is printed wakes whoever waits for the process
        self._death: Death | None = None
        self.selector = selectors.DefaultSelector()
        self.selector.register(ours.fileno(), selectors.EVENT_READ, "pipe")
        self.selector.register(output, selectors.EVENT_READ, "output")
        # Its own end of the Pipe may live on in a child that it forked: only this tells its death.
        self.selector.register(self._pidfd, selectors.EVENT_READ, "death")

    def is_unfit(self) -> bool:
        """Whether the process, which has nothing to do, has ended or speaks all the same."""
        ready = {key.data for key, _ in self.selector.select(0)}
        speaks = "pipe" in ready or self.pending or self.reader.is_amid_a_line
        return "death" in ready or (self.is_ready and bool(speaks))

    # -- tickets that are sent ahead ----------------------------------------------------------------

    def send_ahead(self, tickets: Sequence[Ticket], *, hears_output: bool) -> None:
        """Hand over several tickets, in the order of their serials; all of them fit into the Pipe.

        Args:
            tickets: which nobody has been handed yet.
            hears_output: whether to be woken by what they print.  It waits where it is until it is read.
        """
        self._ahead_upto, self.ahead_since = tickets[-1].serial, time.monotonic()
        self.gate.open(tickets[0].serial, self._ahead_upto)
        self.is_withdrawn = False
        if not hears_output:
            self.ignore_output()
        if self.send(memoryview(b"".join([ticket.line_ahead for ticket in tickets]))):
            self.signal_group(
                signal.SIGKILL
            )  # half a ticket is none; what has not begun runs in the next process

    def has_ahead(self, ticket: Ticket) -> bool:
        """Whether the ticket was sent ahead, and not taken back."""
        return ticket.serial <= self._ahead_upto

    def withdraw(self) -> int:
        """Take back what was sent ahead and has not begun; return the serial of what has begun last."""
        if not self.is_withdrawn:
            self.is_withdrawn = True
            self.gate.close()
            self.selector.select(0)  # the system call in between: see `gate`
            self._ahead_upto = min(self._ahead_upto, self.gate.begun)
        return self.gate.begun

    def ignore_output(self) -> None:
        """Be woken no more by what is printed."""
        self.forget("output")
        self.hears_output = False

    def hear_output(self) -> None:
        """Be woken again by what is printed."""
        if not self.hears_output:
            self.hears_output = True
            self.selector.register(self._output, selectors.EVENT_READ, "output")

    def has_said(self, hello: Hello) -> None:
        """Take note that it has come up."""
        self.is_ready = True
        self.cpu_seconds = hello.cpu_seconds

    def greet(self, wanted: Callable[[], bool] = lambda: True) -> Greeting:
        """Wait until the process has imported the task modules, or cannot be expected to any more.

        Args:
            wanted: asked twice a second; if it says no, nobody waits any longer.
        """
        greeting = Greeting()
        give_up_at = time.monotonic() + IMPORT_SECONDS
        while greeting.hello is None and greeting.fault is None and wanted():
            left = give_up_at - time.monotonic()
            if left <= 0:
                return greeting._replace(fault=f"it took more than {IMPORT_SECONDS:g} s")
            sources = {key.data for key, _ in self.selector.select(min(left, 0.5))}
            if "output" in sources:
                greeting = self._hear_printed(greeting)
            if "pipe" in sources:
                greeting = self._hear_lines(greeting)
            elif "death" in sources:
                break
        return greeting

    def _hear_printed(self, greeting: Greeting) -> Greeting:
        data = self.read_output()
        if not data:
            self.forget("output")
        return greeting._replace(printed=(greeting.printed + data)[-GREETING_BYTES:])

    def _hear_lines(self, greeting: Greeting) -> Greeting:
        try:
            for line in self.reader.read():
                meant = meaning(line)
                if line[:1] == Kind.IMPORTING.value:
                    greeting = greeting._replace(importing=meant)
                elif line[:1] == Kind.HELLO.value:
                    greeting = greeting._replace(hello=meant)
                    self.has_said(meant)
        except EOFError:
            self.forget("pipe")
        except GarbageError:
            return greeting._replace(fault="it wrote into the Pipe to its worker")
        return greeting

    def send(self, line: memoryview) -> memoryview:
        """Hand over as much of a ticket as the Pipe takes; return the rest.  A dead process is found by reading."""
        try:
            return line[os.write(self._pipe.fileno(), line) :]
        except BlockingIOError:
            return line
        except (BrokenPipeError, ConnectionResetError):
            return line[:0]

    def read_output(self) -> bytes:
        """Return what was printed and not yet read, up to a bound; empty if that is nothing."""
        try:
            return os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return b""

    def forget(self, source: str) -> None:
        """Watch one of `pipe`, `output`, `death` no more: it would be ready for ever."""
        for key in list(self.selector.get_map().values()):
            if key.data == source:
                self.selector.unregister(key.fileobj)

    def signal_group(self, signum: signal.Signals) -> None:
        """Send `signum` to the process and all of its process group."""
        # The group's id is not used again while the process is not reaped.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    def kill(self) -> Death:
        """Kill the process and its process group; return how it ended."""
        if self._death is not None:
            return self._death
        self.signal_group(signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self._death = Death(
            signal=_signal_name(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None,
            exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            cpu_seconds=used.ru_utime + used.ru_stime,
            peak_memory_bytes=used.ru_maxrss * 1024,  # Linux counts it in KiB
        )
        return self._death

    @property
    def is_dead(self) -> bool:
        """Whether it was buried."""
        return self._death is not None

    def close(self) -> None:
        """Let go of the descriptors, after `kill`."""
        self.selector.close()
        self.tail.close()
        self._pipe.close()
        os.close(self._output)
        os.close(self._pidfd)


def _started(
    code: Code, sizes: Sequence[int], pipe: int, tail: int, printed: int
) -> "subprocess.Popen[bytes]":
    """Start a job process; the last three are the descriptors that it gets."""
    return subprocess.Popen(
        [
            sys.executable,
            *("-m", "jobrunner.dispatcher.job_process"),
            *map(str, (pipe, tail, os.getpid(), *sizes)),
            *code.modules,
        ],
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        pass_fds=[pipe, tail],
        start_new_session=True,
    )


def kill_children() -> None:
    """Kill and reap every child of this process: for a worker, which has no other than its job process.

    With `kernel.adopt_orphans`, whatever a dead job process had started is a child of ours by now, also
    if it had left the process group.  Each round reaps a generation, whose own children become ours.
    """
    give_up = time.monotonic() + REAP_SECONDS
    while (orphans := kernel.children(os.getpid())) and time.monotonic() < give_up:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def reap_orphans(job_process: int) -> None:
    """Reap the dead that jobs have left to this process, which adopted them; never the job process itself."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid == job_process:
                return
            os.waitpid(found.si_pid, 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
