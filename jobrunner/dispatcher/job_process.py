"""The job process: runs the user's function, one job after another.

Started by exec as `python -m jobrunner.dispatcher.job_process FD PARENT MAX_RESULT MAX_PARTIAL MAX_PARTIALS MODULE...`,
in a session of its own.  It is the only thing that is ever killed: it shares nothing but the Pipe `FD` to its worker,
and its stdout.  Imports here are few on purpose: no Flask, no SQLAlchemy.
"""

import contextlib
import inspect
import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from types import FrameType
from typing import Any, Final

from jobrunner import kernel, sizes
from jobrunner.dispatcher import lines
from jobrunner.dispatcher.lines import Kind
from jobrunner.errors import DuplicateTaskError, TaskModulesError, UnserializableError
from jobrunner.lifecycle import Ending
from jobrunner.tasks import context, loading
from jobrunner.tasks.encoding import to_json
from jobrunner.tasks.registry import REGISTRY

MESSAGE_CHARACTERS: Final = 10_000  #: of an exception's message that are kept
TRACEBACK_CHARACTERS: Final = 60_000
PROGRESS_CHARACTERS: Final = 1000  #: of the word about the progress
STOPPED_STATUS: Final = 128 + signal.SIGTERM


class Stopped(BaseException):
    """SIGTERM came: the task's `finally` blocks run, and the process ends."""


def _on_sigterm(_signum: int, _frame: FrameType | None) -> None:
    raise Stopped


class JobProcess:
    """One end of the Pipe, and the jobs that come through it."""

    def __init__(
        self, fd: int, *, max_result_bytes: int, max_partial_bytes: int, max_partials_bytes: int
    ) -> None:
        self._fd = fd
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
        data = b"".join([kind.value + text.encode("ascii") + b"\n" for kind, text in said])
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
            for ticket in tickets:
                self._run(json.loads(ticket))

    def _run(self, ticket: dict[str, Any]) -> None:
        _reset_signals()  # the job before may have left its own
        job = context.CurrentJob(ticket["id"], ticket["attempt"], self._tell_progress)
        context.enter(job)
        self._meter.start()
        try:
            kind, text = Kind.RESULT, self._call(ticket["task"], ticket["params"])
            job.flush()
        except Stopped:
            raise
        except UnserializableError as error:
            kind, text = Kind.ERROR, _told(Ending.UNSERIALIZABLE, error)
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and its like end the job, not the process
            kind, text = Kind.ERROR, _told(Ending.EXCEPTION, error)
        self._leave_if_forked()
        context.enter(context.CurrentJob())
        job.silence()  # a thread of the task may live on
        self._tidy()
        self.say((Kind.USAGE, self._meter.read()), (kind, text))

    def _call(self, name: str, params: dict[str, Any]) -> str:
        task = REGISTRY.get(name)
        if task is None:
            raise TaskModulesError(f"no task named {name!r} is loaded here; {self._why_not()}")
        value = task.function(**task.parameters.arguments(params))
        if inspect.isgenerator(value):
            value = self._stream(value)  # type: ignore[arg-type]
        return _encoded(value, "result", self._max_result_bytes, "max_result_bytes")

    def _stream(self, values: Generator[Any, None, Any]) -> Any:
        count = size = 0
        while True:
            try:
                value = next(values)
            except StopIteration as end:
                return end.value
            name = f"partial result {count}"
            text = _encoded(value, name, self._max_partial_bytes, "max_partial_bytes")
            size += len(text)
            if size > self._max_partials_bytes:
                raise _too_large(f"all up to {name}", size, self._max_partials_bytes, "max_partials_bytes")
            self.say((Kind.PARTIAL, text))
            count += 1

    def _tell_progress(self, done: float, total: float | None, message: str | None) -> None:
        if isinstance(message, str):
            message = message[:PROGRESS_CHARACTERS]
        told = {"done": done, "total": total, "message": message}
        text = _encoded(told, "progress", self._max_partial_bytes, "max_partial_bytes")
        self.say((Kind.PROGRESS, text))

    def _tidy(self) -> None:
        """Have all that was printed on its way before the last line, and leave no trace for the next job."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        _flush()
        with contextlib.suppress(OSError):  # its home may be gone; the next job would say so
            os.chdir(self._home)

    def _why_not(self) -> str:
        broken = "".join(f"\n{module} cannot be imported:\n{error}" for module, error in self._errors.items())
        return broken or f"there are: {', '.join(sorted(REGISTRY))}"


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            with contextlib.suppress(OSError):  # a task may have closed the descriptor below it
                stream.flush()
    kernel.flush_c_stdio()


def _reset_signals() -> None:
    signal.signal(signal.SIGTERM, _on_sigterm)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # workers ignore it, and that is inherited
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # see WorkerPool: SIGTERM came blocked


class _Meter:
    """What an attempt uses, read off the process that it shares with others."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self.start()

    def start(self) -> None:
        self._cpu_before, self._peak_before = self._used()

    def cpu_seconds(self) -> float:
        """Return what the process has used since it started, and the children that it waited for."""
        return self._used()[0]

    def read(self) -> str:
        """Return what the attempt used, as a `lines.Used`."""
        total, peak = self._used()
        # The process's own peak may be an earlier job's: then what is resident now is the better figure.
        if peak <= self._peak_before:
            peak = int(os.pread(self._statm, 200, 0).split()[1]) * resource.getpagesize()
        cpu_seconds = total - self._cpu_before
        return f'{{"cpu_seconds":{cpu_seconds:.6f},"process_cpu_seconds":{total:.6f},"peak_memory_bytes":{peak}}}'

    def _used(self) -> tuple[float, int]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        others = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
        return cpu_seconds, own.ru_maxrss * 1024  # Linux counts it in KiB


def _encoded(value: Any, name: str, limit: int, setting: str) -> str:
    if isinstance(value, str) and len(value) > limit:  # which takes no copy of it to know
        raise _too_large(name, len(value), limit, setting)
    text = to_json(value, name)
    if len(text) > limit:
        raise _too_large(name, len(text), limit, setting)
    return text


def _too_large(what: str, size: int, limit: int, setting: str) -> UnserializableError:
    return UnserializableError(
        f"{what} comes to {sizes.in_words(size)} of JSON, {setting} is {limit} ({sizes.in_words(limit)}): "
        "write it to a file and give back its path, or raise the limit"
    )


def _told(ending: Ending, error: BaseException) -> str:
    """Return an error as JSON; the traceback starts at the first frame that is not ours."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    if len(text) > TRACEBACK_CHARACTERS:
        half = TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    home = type(error).__module__
    name = type(error).__qualname__
    return json.dumps(
        {
            "kind": ending,
            "type": name if home == "builtins" else f"{home}.{name}",
            "message": _readable(_message(error)),
            "traceback": None if ending is Ending.UNSERIALIZABLE else _readable(text),
        }
    )


def _readable(text: str) -> str:
    """Return `text` without halves of surrogate pairs, which are no text to UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_CHARACTERS]
    except Exception as worse:  # noqa: BLE001 - user code: an exception whose text cannot be had
        return f"<its text cannot be had: {type(worse).__qualname__}>"


def main(arguments: list[str]) -> None:
    """Run jobs until the worker hangs up or SIGTERM comes."""
    fd, parent_pid, max_result_bytes, max_partial_bytes, max_partials_bytes = map(int, arguments[:5])
    try:
        _reset_signals()
        # A helper that a task forks ends on SIGTERM as any process does.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
        kernel.die_with_parent(parent_pid)
        kernel.prefer_as_oom_victim()
        os.set_inheritable(fd, False)  # else a program that a task starts would hold the Pipe open
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
        process = JobProcess(
            fd,
            max_result_bytes=max_result_bytes,
            max_partial_bytes=max_partial_bytes,
            max_partials_bytes=max_partials_bytes,
        )
        process.load(arguments[5:])
        process.serve()
    except Stopped:
        kernel.flush_c_stdio()
        sys.exit(STOPPED_STATUS)


if __name__ == "__main__":
    main(sys.argv[1:])
