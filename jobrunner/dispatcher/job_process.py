"""The job process: runs the user's function, one job after another.

Started by exec as
`python -m jobrunner.dispatcher.job_process FD TAIL PARENT MAX_RESULT MAX_PARTIAL MAX_PARTIALS MODULE...`, in a
session of its own.  It is the only thing that is ever killed: it shares nothing but the Pipe `FD` and the memory `TAIL`
with its worker, and its stdout.  Imports here are few on purpose: no Flask, no SQLAlchemy.
"""

import contextlib
import fcntl
import inspect
import json
import os
import resource
import signal
import sys
import termios
import threading
import time
from array import array
from collections.abc import Generator
from typing import Any, Final

import msgspec

from jobrunner import kernel
from jobrunner.dispatcher import lines
from jobrunner.dispatcher.chunk_run import ChunkRun
from jobrunner.dispatcher.lines import Kind
from jobrunner.dispatcher.stopped import Stopped, reset_signals
from jobrunner.dispatcher.tail import Tail
from jobrunner.dispatcher.telling import encoded, told, too_large
from jobrunner.dispatcher.value_stream import ValueStream
from jobrunner.errors import DuplicateTaskError, TaskModulesError
from jobrunner.tasks import context, loading
from jobrunner.tasks.registry import REGISTRY, Task

PROGRESS_CHARACTERS: Final = 1000  #: of the word about the progress
READ_SECONDS: Final = 0.0002  #: between two looks whether the worker has read what was printed
MUCH_CHARACTERS: Final = 1 << 16  #: of a result: what it takes to send them is not the next job's
STOPPED_STATUS: Final = 128 + signal.SIGTERM

_ticket_in: Final = msgspec.json.Decoder(dict[str, Any]).decode  # the API lets in only what this can read
_despite_os_errors: Final = contextlib.suppress(OSError)


class JobProcess:
    """One end of the Pipe, and the jobs that come through it."""

    def __init__(
        self,
        fd: int,
        tail_fd: int,
        *,
        max_result_bytes: int,
        max_partial_bytes: int,
        max_partials_bytes: int,
    ) -> None:
        self._fd = fd
        self._tail = Tail.attach(tail_fd)
        self._gate = self._tail.gate
        self._output = os.dup(1)  # the task may do to its stdout as it likes
        self._unread = array("i", [0])
        self._reader = lines.LineReader(fd)
        self._max_result_bytes = max_result_bytes
        self._max_partial_bytes = max_partial_bytes
        self._max_partials_bytes = max_partials_bytes
        self._speaking = threading.RLock()  # a task may call progress() from its threads and signal handlers
        self._torn = False  # whether a line was cut short: what came after it would be read as its end
        self._pid = os.getpid()
        self._home = os.getcwd()  # noqa: PTH109 - only to be gone back to
        self._errors: dict[str, str] = {}
        self._meter = _Meter()

    def say(self, *said: tuple[Kind, str]) -> None:
        """Send one line for each of `said`, together: a trip costs more than a word."""
        data = b"".join([b"%b%b\n" % (kind, text.encode("ascii")) for kind, text in said])
        self._leave_if_forked()
        with self._speaking:
            if self._torn:
                return
            self._torn = True
            lines.write(self._fd, data)  # SIGTERM may raise in the middle
            self._torn = False

    def _leave_if_forked(self) -> None:
        """End a process that the task has forked and that came back to us: it must not speak for the job."""
        if os.getpid() != self._pid:
            _flush()
            os._exit(0)

    def load(self, modules: list[str]) -> None:
        """Import the task modules, and say hello with what they hold."""
        refused = None
        try:
            for module in modules:
                self.say((Kind.IMPORTING, json.dumps(module)))
                self._errors |= {name: error for name, error in loading.load([module]) if error is not None}
        except DuplicateTaskError as error:
            refused = str(error)
        hello = {"tasks": loading.catalogue(), "errors": self._errors, "refused": refused}
        self.say((Kind.HELLO, json.dumps(hello | {"cpu_seconds": self._meter.cpu_seconds()})))

    def serve(self) -> None:
        """Run what comes until the worker hangs up."""
        while True:
            try:
                tickets = self._reader.read()
            except EOFError:
                return
            self._meter.start()
            for line in tickets:
                ticket = _ticket_in(line)
                if self._may_begin(ticket.get("serial")):
                    self._run(ticket)

    def _may_begin(self, serial: int | None) -> bool:
        """Whether to run a ticket: it may have come ahead with others, and been taken back."""
        if serial is None:
            return True
        if not self._gate.admits(serial):
            return False
        self._gate.begin(serial)
        self._unread_bytes()  # the system call in between: see `gate`
        if self._gate.admits(serial):
            return True
        self.say((Kind.WITHDRAWN, str(serial)))
        return False

    def _unread_bytes(self) -> int:
        """Return how much of what was printed is still in the pipe to the worker."""
        try:
            fcntl.ioctl(self._output, termios.FIONREAD, self._unread, True)
        except OSError:  # it is no pipe, or closed
            return 0
        return self._unread[0]

    def _wait_until_read(self) -> None:
        """Leave the next ticket until the worker has read what this one has printed: whose is it, else?"""
        while self._unread_bytes():
            time.sleep(READ_SECONDS)

    def _run(self, ticket: dict[str, Any]) -> None:
        started = time.monotonic()
        reset_signals()  # the job before may have left its own
        chunk = ticket.get("chunk")
        tell = self._tell_progress if chunk is None else _tell_nobody
        job = context.CurrentJob(ticket["id"], ticket["attempt"], tell)
        context.enter(job)
        try:
            task = self._task(ticket["task"])
            if chunk is not None:
                kind, text = Kind.CHUNK_END, self._run_chunk(task, ticket["params"], chunk, job)
            elif ticket.get("reduces"):
                kind, text = Kind.RESULT, self._reduce(task, ticket["params"])
            else:
                kind, text = Kind.RESULT, self._call(task, task.parameters.arguments(ticket["params"]))
            job.flush()
        except Stopped:
            raise
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and its like end the job, not the process
            kind, text = Kind.ERROR, json.dumps(told(error))
        self._leave_if_forked()
        context.leave()
        job.silence()  # a thread of the task may live on
        self._tidy()
        printed = "serial" in ticket and self._unread_bytes() > 0
        used = self._meter.read(started, printed=printed)
        self.say((Kind.USAGE, used), (kind, text))
        if printed:
            self._wait_until_read()
        if len(text) > MUCH_CHARACTERS:
            self._meter.start()

    def _task(self, name: str) -> Task:
        task = REGISTRY.get(name)
        if task is None:
            raise TaskModulesError(f"no task named {name!r} is loaded here; {self._why_not()}")
        return task

    def _run_chunk(
        self, task: Task, params: dict[str, Any], chunk: dict[str, Any], job: context.CurrentJob
    ) -> str:
        run = ChunkRun(self.say, self._tail, self._leave_if_forked, max_partial_bytes=self._max_partial_bytes)
        return run.run(task, params, chunk, job)

    def _reduce(self, task: Task, params: dict[str, Any]) -> str:
        """Call a task with the stream of values that follows its ticket."""
        values = ValueStream(self._reader.read)
        try:
            text = self._call(task, task.parameters.arguments_beside(iter(values), params))
        except Stopped:  # nobody sends the rest
            raise
        except BaseException:
            values.drain()
            raise
        values.drain()
        return text

    def _call(self, task: Task, arguments: dict[str, Any]) -> str:
        value = task.function(**arguments)
        if inspect.isgenerator(value):
            value = self._stream(value)  # type: ignore[arg-type]
        return encoded(value, "result", self._max_result_bytes, "max_result_bytes")

    def _stream(self, values: Generator[Any, None, Any]) -> Any:
        count = size = 0
        while True:
            try:
                value = next(values)
            except StopIteration as end:
                return end.value
            name = f"partial result {count}"
            text = encoded(value, name, self._max_partial_bytes, "max_partial_bytes")
            size += len(text)
            if size > self._max_partials_bytes:
                raise too_large(f"all up to {name}", size, self._max_partials_bytes, "max_partials_bytes")
            self.say((Kind.PARTIAL, text))
            count += 1

    def _tell_progress(self, done: float, total: float | None, message: str | None) -> None:
        if isinstance(message, str):
            message = message[:PROGRESS_CHARACTERS]
        progress = {"done": done, "total": total, "message": message}
        text = encoded(progress, "progress", self._max_partial_bytes, "max_partial_bytes")
        self.say((Kind.PROGRESS, text))

    def _tidy(self) -> None:
        """Have all that was printed on its way before the last line, and leave no trace for the next job."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        _flush()
        with _despite_os_errors:  # its home may be gone; the next job would say so
            os.chdir(self._home)

    def _why_not(self) -> str:
        broken = "".join(f"\n{module} cannot be imported:\n{error}" for module, error in self._errors.items())
        return broken or f"there are: {', '.join(sorted(REGISTRY))}"


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            with _despite_os_errors:  # a task may have closed the descriptor below it
                stream.flush()
    kernel.flush_c_stdio()


def _tell_nobody(_done: float, _total: float | None, _message: str | None) -> None:
    """Drop the progress of one of many items."""


class _Meter:
    """What an attempt uses, read off the process that it shares with others.

    Each has used what was used since the one before, or since `start`: between two in hand next to nothing is.
    """

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._faults = -1
        self.start()

    def start(self) -> None:
        """Begin anew: what was used up to now is no attempt's."""
        self._cpu_before, self._peak_before, _ = self._used()

    def cpu_seconds(self) -> float:
        """Return what the process has used since it started, and the children that it waited for."""
        return self._used()[0]

    def read(self, began: float, *, printed: bool) -> str:
        """Return what the attempt used that began then, as a `lines.Used`; the next one begins."""
        total, highest, faults = self._used()
        # The process's own peak may be an earlier job's: then what is resident now is the better figure.
        peak = highest if highest > self._peak_before else self._resident_bytes(faults)
        text = (
            f'{{"cpu_seconds":{total - self._cpu_before:.6f},"process_cpu_seconds":{total:.6f},'
            f'"peak_memory_bytes":{peak},"began":{began:.6f},"seconds":{time.monotonic() - began:.6f},'
            f'"printed":{"true" if printed else "false"}}}'
        )
        self._cpu_before, self._peak_before = total, highest
        return text

    def _resident_bytes(self, faults: int) -> int:
        if faults != self._faults:  # else no page has come since the last look
            self._faults = faults
            self._resident = int(os.pread(self._statm, 200, 0).split()[1]) * resource.getpagesize()
        return self._resident

    def _used(self) -> tuple[float, int, int]:
        """Return CPU seconds, the highest peak in bytes, how often memory was asked of the kernel."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        others = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
        return cpu_seconds, own.ru_maxrss * 1024, own.ru_minflt  # Linux counts the peak in KiB


def main(arguments: list[str]) -> None:
    """Run jobs until the worker hangs up or SIGTERM comes."""
    fd, tail_fd, parent_pid, max_result_bytes, max_partial_bytes, max_partials_bytes = map(int, arguments[:6])
    try:
        reset_signals()
        # A helper that a task forks ends on SIGTERM as any process does.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
        kernel.die_with_parent(parent_pid)
        kernel.prefer_as_oom_victim()
        os.set_inheritable(fd, False)  # else a program that a task starts would hold the Pipe open
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
        process = JobProcess(
            fd,
            tail_fd,
            max_result_bytes=max_result_bytes,
            max_partial_bytes=max_partial_bytes,
            max_partials_bytes=max_partials_bytes,
        )
        os.close(tail_fd)
        process.load(arguments[6:])
        process.serve()
    except Stopped:
        kernel.flush_c_stdio()
        sys.exit(STOPPED_STATUS)


if __name__ == "__main__":
    main(sys.argv[1:])
