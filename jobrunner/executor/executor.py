"""The executor: calls become jobs, and jobs become futures."""

import concurrent.futures
import contextlib
import functools
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, ParamSpec, TypeVar, Unpack, overload

from jobrunner.client import Client, ClientError, Job, ProblemError, SubmitOptions, forks
from jobrunner.executor.ahead import Ahead
from jobrunner.executor.calls import Callables
from jobrunner.executor.future import JobFuture, is_cancelled
from jobrunner.executor.watch import Watch
from jobrunner.executor.windows import Windows

LABEL: Final = "executor"  #: the key of the label by which the jobs of one executor are found
PATIENCE_SECONDS: Final = 120.0  #: for an API that is away while futures are pending

P = ParamSpec("P")
T = TypeVar("T")


_OF_A_POOL: Final = {"max_workers", "mp_context", "initializer", "initargs", "max_tasks_per_child"}
_ITS_OWN_POOL: Final = (
    "the server has a pool of its own, and its setting `workers` says how many jobs run at a time"
)


class Executor(concurrent.futures.Executor):
    """Runs calls of tasks as jobs on the server, where they are kept; all calls of a `map` are one map job.

    It takes the place of a `ProcessPoolExecutor`.  What is different:

    * The function is a task: decorated with `@task` in a module that the dispatcher serves, or the name of one.
      Arguments and results travel as JSON.
    * Once `submit` or `map` returns, the jobs are stored.  They go on when this process ends, are given back when
      a machine is lost, and are found by the label `executor`, whose value is the attribute `run`.
    * A future can be cancelled while its job runs.
    * A builtin exception comes back as one of its type, with the remote traceback; any other failure as a
      `JobFailedError`, also a crash, a timeout or a memory limit: they break nothing but their own job, so no
      `BrokenExecutor` is raised, and the executor goes on.
    * A forked process may use it too: there it begins anew, and what was pending is its parent's.

    Attributes:
        run: names this executor on its jobs' label; in a forked process another.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, **options: Unpack[SubmitOptions]
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: of the API, as `Client` takes it.
            token: as `Client` takes it.
            **options: of every job, such as `priority=5`.

        Raises:
            SettingError: `url` is not an address, or `token` is none.
            TypeError: an argument is one of a pool of processes, or no option of a job.
        """
        if not isinstance(url, str | None):
            raise TypeError(f"url must be a text, not {url!r}: {_ITS_OWN_POOL}")
        if pooled := sorted(options.keys() & _OF_A_POOL):
            raise TypeError(f"leave out {', '.join(pooled)}: {_ITS_OWN_POOL}")
        if unknown := sorted(options.keys() - SubmitOptions.__annotations__.keys()):
            known = ", ".join(SubmitOptions.__annotations__)
            raise TypeError(f"{', '.join(unknown)}: no such option of a job; there is {known}")
        self._asking = Client(url, token, patience_seconds=PATIENCE_SECONDS)
        self._options = options
        self._callables = Callables(self._asking)
        self._is_shut_down = False
        forks.begin_in_each(self, Executor._begin)

    def _begin(self) -> None:
        """Have nothing pending, and no lock that is held."""
        self.run = uuid.uuid4().hex
        labels = {LABEL: self.run}
        self._client = self._asking.with_options(**self._options).with_options(labels=labels)
        self._watch = Watch(self._asking, labels)
        self._maps: dict[int, Job] = {}  # whose results were not all taken
        # One at a time, so that the ids of jobs ascend in the order in which they become known.
        self._submitting = threading.Lock()

    @overload
    def submit(self, fn: str, /, *args: Any, **kwargs: Any) -> JobFuture[Any]: ...
    @overload  # what a generator returns is its job's result
    def submit(
        self, fn: Callable[P, Generator[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]: ...
    def submit(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> JobFuture[Any]:
        """Submit a call as a job; once this returns, it is stored.

        Args:
            fn: a task, or its name.  Positional arguments are bound by its signature; of a name, in the order in
                which its schema lists the parameters.
            *args: have a form in JSON.
            **kwargs: likewise.

        Raises:
            TypeError: `fn` is no task, or the arguments are not for it.
            RuntimeError: the executor is shut down.
            ClientError: the API refused the job, or was not reached.
        """
        callee = self._callables.task(fn)
        params = callee.params(args, kwargs).value
        with self._submitting:
            self._require_open()
            future: JobFuture[Any] = JobFuture(self._client.submit(callee.task, **params), self._watch.forget)
            self._watch.add([future])
        return future

    def map(
        self,
        fn: Callable[..., T] | str,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator over the results of `fn` for the items of the iterables, in order.

        They are the items of a map job, or of several if they take megabytes; a range of any length takes next to
        nothing.  When the iterator is left before its end, as also by an exception, the jobs are cancelled.

        Args:
            fn: a task, or its name.
            *iterables: one for each argument; the shortest ends it.
            timeout: in seconds from this call, after which the iterator raises TimeoutError.
            chunksize: how many items a worker is handed at a time; None: as many as take a moment.
            buffersize: the most items that are submitted and whose result was not taken yet, so that iterables
                may be endless; half of them are one map job.  None submits all before this returns.

        Raises:
            ValueError: `chunksize` or `buffersize` is less than 1.
            TypeError, RuntimeError, ClientError: as `submit`.
        """
        if any(size is not None and size < 1 for size in (chunksize, buffersize)):
            raise ValueError("chunksize and buffersize must be >= 1")
        callee = self._callables.task(fn)
        end = float("inf") if timeout is None else time.monotonic() + timeout
        windows = Windows(callee, iterables)
        client = self._client if chunksize is None else self._client.with_options(chunk_size=chunksize)
        ahead = Ahead[T](
            windows.take,
            functools.partial(self._map, client, callee.task, windows),
            self._forget,
            sys.maxsize if buffersize is None else max(1, buffersize // 2),
            float("inf") if buffersize is None else buffersize,
        )
        ahead.fill()
        return ahead.results(end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all futures are done.
            cancel_futures: cancel those whose jobs have not begun, and every `map` whose results were not all taken.

        Raises:
            ClientError: the API could not be asked to cancel.
            RuntimeError: a callback of a future would have to wait for itself.
        """
        with self._submitting:
            self._is_shut_down = True
        maps = list(self._maps.values())
        if cancel_futures:
            self._watch.cancel_queued(self._watch.pending())
            for job in maps:
                is_cancelled(job)
        if wait:
            self._watch.join()
            for job in maps:
                with contextlib.suppress(ClientError):  # whoever takes its results will be told
                    job.wait()
                self._forget(job.id)  # there is nothing to cancel any more
            self._client.close()

    def _map(self, client: Client, task: str, windows: Windows, items: Sequence[Any]) -> list[Job]:
        """Submit these items as one map job, or as several if one would be too large for a request."""
        try:
            with self._submitting:
                self._require_open()
                job = client.map(task, windows.asked(items), **windows.params)
                self._maps[job.id] = job
                return [job]
        except ProblemError as problem:
            if problem.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE or len(items) == 1:
                raise
        half = len(items) // 2
        submit = functools.partial(self._map, client, task, windows)
        return [*submit(items[:half]), *submit(items[half:])]

    def _forget(self, job_id: int) -> bool:
        return self._maps.pop(job_id, None) is not None

    def _require_open(self) -> None:
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
