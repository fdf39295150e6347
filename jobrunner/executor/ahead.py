"""What `map` does: it takes results in order, and submits calls ahead of them."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

from jobrunner.client import ClientError
from jobrunner.executor.calls import Params
from jobrunner.executor.future import JobFuture

BATCH_BYTES: Final = (
    4 << 20
)  #: of parameters, after which a request has enough; a server takes 16 MiB by default

T = TypeVar("T")


class Ahead(Generic[T]):
    """The calls of one `map`: those whose result was not taken yet, and those that are not submitted yet."""

    def __init__(
        self,
        submit: Callable[[Sequence[dict[str, Any]]], list[JobFuture[T]]],
        cancel: Callable[[Sequence[JobFuture[T]]], None],
        calls: Iterator[Params],
        chunk: int,
        most: float,
    ) -> None:
        """Submit nothing yet.

        Args:
            submit: stores a job for each of these parameters.
            cancel: cancels those that have not begun.
            calls: may be endless.
            chunk: calls in one request, at most.
            most: calls that are submitted and whose result was not taken.
        """
        self._submit = submit
        self._cancel = cancel
        self._calls = calls
        self._chunk = chunk
        self._most = most
        self._futures: deque[JobFuture[T]] = deque()

    def fill(self) -> None:
        """Submit as many as there is room for."""
        while len(self._futures) + self._chunk <= self._most and (many := self._next()):
            self._futures.extend(self._submit(many))

    def results(self, end: float) -> Iterator[T]:
        """Yield results until the monotonic time `end`; whoever leaves early wants none of the rest."""
        try:
            while self._futures:
                result = self._futures[0].result(None if end == float("inf") else end - time.monotonic())
                self._futures.popleft()
                self.fill()
                yield result
        finally:
            # What could not be cancelled is done for nothing, and does no harm.
            with contextlib.suppress(ClientError):
                self._cancel(self._futures)

    def _next(self) -> list[dict[str, Any]]:
        """Return the parameters for one request."""
        many: list[dict[str, Any]] = []
        size = 0
        while len(many) < self._chunk and size < BATCH_BYTES:
            call = next(self._calls, None)
            if call is None:
                break
            many.append(call.value)
            size += call.size
        return many
