"""The result writer: the one process in which results become rows, in batches.

A batch is whatever has come while the one before was written, so commits grow with the load by themselves.
It ends when it is told to and the Queue is empty, or soon after the dispatcher is gone.
"""

import logging
import multiprocessing
import os
import queue as queues
import signal
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType
from typing import Final

from jobrunner import logs, reports
from jobrunner.dispatcher.outage import Outage
from jobrunner.errors import StoreUnavailableError
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, Report
from jobrunner.store import reports as store_reports
from jobrunner.store.engine import Store
from jobrunner.wakeup import DISPATCHERS, WATCHERS, wake

BATCH_REPORTS: Final = 500  #: in one transaction
BATCH_EVENTS: Final = 10_000  #: in one transaction, roughly
BATCH_BYTES: Final = 8 << 20  #: in one transaction, beside the last thing in it
GATHER_SECONDS: Final = 0.01  #: between two commits under load; after a quiet time nothing waits
FEW: Final = 8  #: reports and things said: what comes after a batch of no more than this does not wait either
LOOK_SECONDS: Final = 0.25  #: how often it looks whether it is still wanted
RETRY_SECONDS: Final = 0.5  #: between two attempts to write to a store that cannot be written
ERROR_CHARACTERS: Final = 500  #: of what is said of a report that cannot be written
ORPHAN_SECONDS: Final = 0.5  #: for what is in the Queue, once the dispatcher is gone

FINISH: Final = signal.SIGUSR1  #: write what is in the Queue and end; SIGTERM is for the dispatcher alone

log = logging.getLogger("jobrunner.writer")


class Writer:
    """Reads the Queue, writes the store."""

    def __init__(self, queue: "Queue[list[Report]]", store: Store, data: Path) -> None:
        self._queue = queue
        self._store = store
        self._data = data
        self._outage = Outage(log)
        self._stop = threading.Event()
        self._gather_until = 0.0

    def stop(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        """End when the Queue is empty."""
        self._stop.set()

    def run(self) -> None:
        """Write until it was told to stop and the Queue is empty."""
        while True:
            batch = self._next_batch()
            if batch:
                self._write(batch)
            elif self._stop.is_set():
                return

    def end_with_parent(self) -> None:
        """Wait for the dispatcher to die, write what is left for a moment, and end.

        A thread of its own, for a worker that died while it wrote may leave half a report in the Queue, and to
        read that takes for ever.
        """
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        self._stop.set()
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    def _next_batch(self) -> list[Report]:
        """Return what is there; wait a little for the first report."""
        batch: list[Report] = []
        events = size = 0
        try:
            come = self._queue.get(timeout=0 if self._stop.is_set() else LOOK_SECONDS)
            if (left_seconds := self._gather_until - time.monotonic()) > 0:
                self._stop.wait(left_seconds)
            while True:
                batch += come
                events += sum(len(report.said) for report in come)
                size += sum(report.size for report in come)
                if len(batch) >= BATCH_REPORTS or events >= BATCH_EVENTS or size >= BATCH_BYTES:
                    return batch
                if not self._queue.qsize():  # which costs less than to look into the pipe
                    return batch
                come = self._queue.get_nowait()
        except queues.Empty:
            pass  # all there is for now
        return batch

    def _write(self, batch: list[Report]) -> None:
        """Commit the batch, however long the store cannot be written; the bounded Queue slows the jobs meanwhile."""
        try:
            recorded = self._commit(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, after a restart it would come again
            self._write_apart(batch, error)
            return
        load = len(batch) + sum(len(report.said) + len(report.items) for report in batch)
        self._gather_until = time.monotonic() + GATHER_SECONDS if load > FEW else 0.0
        for report in recorded.refused:
            log.warning("job %d has moved on: attempt %d is refused", report.job_id, report.attempt)
        wake(self._data / WATCHERS)
        if recorded.requeued:
            wake(self._data / DISPATCHERS)

    def _write_apart(self, batch: list[Report], error: Exception) -> None:
        """Write each report by itself; the one that cannot be written fails its job, and no other."""
        if len(batch) > 1:
            for report in batch:
                self._write([report])
            return
        (report,) = batch
        log.error("a report of job %d cannot be written; the job fails", report.job_id, exc_info=error)
        self._commit([report._replace(said=(), items=(), ended=_unwritable(error))])

    def _commit(self, batch: list[Report]) -> store_reports.Recorded:
        # The last word on a map job's last chunk ends the job, too.
        durable = any(report.ended is not None or report.closed is not None for report in batch)
        while True:
            try:
                with self._store.write(durable=durable) as connection:
                    recorded = store_reports.record(connection, batch)
            except StoreUnavailableError as error:
                self._outage.goes_on(error)
                time.sleep(RETRY_SECONDS)
            else:
                self._outage.may_be_over()
                return recorded


def _unwritable(error: Exception) -> Ended:
    why = f"what it reported cannot be written: {error}".splitlines()[0][:ERROR_CHARACTERS]
    return Ended(Ending.UNSERIALIZABLE, error=reports.error(Ending.UNSERIALIZABLE, why))


def main(queue: "Queue[list[Report]]", url: str, data: Path, level: str) -> None:
    """Be the result writer; the target of its process."""
    logs.to_stderr("writer", level)
    writer = Writer(queue, Store(url), data)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(FINISH, writer.stop)
    threading.Thread(target=writer.end_with_parent, daemon=True).start()
    writer.run()
