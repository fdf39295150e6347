"""The result writer: the one process in which results become rows, in batches.

A batch is whatever has come while the one before was written, so commits grow with the load by themselves.
It ends when it is told to and the Queue is empty, or when the dispatcher is gone.
"""

import logging
import queue as queues
import signal
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType
from typing import Final

from jobrunner.dispatcher.orphan import is_orphan
from jobrunner.errors import StoreUnavailableError
from jobrunner.reports import Report
from jobrunner.store import reports as store_reports
from jobrunner.store.engine import Store
from jobrunner.wakeup import wake

BATCH_REPORTS: Final = 500  #: in one transaction
BATCH_EVENTS: Final = 10_000  #: in one transaction, roughly
GATHER_SECONDS: Final = 0.01  #: between two commits under load; after a quiet time nothing waits
LOOK_SECONDS: Final = 0.25  #: how often it looks whether it is still wanted
RETRY_SECONDS: Final = 0.5  #: between two attempts to write to a store that cannot be written
ORPHAN_SECONDS: Final = 0.5  #: for what is in the Queue, once the dispatcher is gone

log = logging.getLogger("jobrunner.writer")


class Writer:
    """Reads the Queue, writes the store."""

    def __init__(self, queue: "Queue[list[Report] | None]", store: Store, bells: Path) -> None:
        self._queue = queue
        self._store = store
        self._bells = bells
        self._stop = threading.Event()
        self._written_at = 0.0

    def stop(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        """End when the Queue is empty."""
        self._stop.set()

    def run(self) -> None:
        """Write until there is nothing more to expect."""
        give_up_at = float("inf")
        while time.monotonic() < give_up_at:
            batch = self._next_batch()
            if batch:
                self._write(batch, give_up_at)
            elif self._stop.is_set():
                return
            if is_orphan():
                # Nobody else will come to write what is in the Queue, but nobody may outlive the dispatcher for long.
                self._stop.set()
                give_up_at = min(give_up_at, time.monotonic() + ORPHAN_SECONDS)

    def _next_batch(self) -> list[Report]:
        """Return what is there; wait a little for the first report."""
        batch: list[Report] = []
        events = 0
        try:
            reports = self._queue.get(timeout=0 if self._stop.is_set() else LOOK_SECONDS)
            self._stop.wait(self._written_at + GATHER_SECONDS - time.monotonic())
            while reports is not None:
                batch += reports
                events += sum(len(report.said) for report in reports)
                if len(batch) >= BATCH_REPORTS or events >= BATCH_EVENTS:
                    return batch
                reports = self._queue.get_nowait()
            self._stop.set()  # None: the dispatcher's last word
        except queues.Empty:
            pass  # all there is for now
        return batch

    def _write(self, batch: list[Report], give_up_at: float) -> None:
        """Commit the batch, however long the store cannot be written; the bounded Queue slows the jobs meanwhile."""
        durable = any(report.ended is not None for report in batch)
        while True:
            try:
                with self._store.write(durable=durable) as connection:
                    recorded = store_reports.record(connection, batch)
                break
            except StoreUnavailableError as error:
                if time.monotonic() > give_up_at or is_orphan():
                    raise
                log.warning("%s; %d reports wait", error, len(batch))
                threading.Event().wait(RETRY_SECONDS)
        self._written_at = time.monotonic()
        for report in recorded.refused:
            log.warning("job %d has moved on: attempt %d is refused", report.job_id, report.attempt)
        if recorded.requeued:
            wake(self._bells)


def main(queue: "Queue[list[Report] | None]", url: str, bells: Path, level: str) -> None:
    """Be the result writer; the target of its process."""
    logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s")
    writer = Writer(queue, Store(url), bells)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, writer.stop)
    writer.run()
