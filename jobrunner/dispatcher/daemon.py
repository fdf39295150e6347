"""The daemon: brings everything up in order, turns signals into words to the loop, and takes everything down.

Crash-only: if the Pool breaks or the lease is lost, nothing is mended here.  What ran is given back, the process
ends with a status that is not 0, and its supervisor starts it again.
"""

import logging
import os
import selectors
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NoReturn

from jobrunner import durations, kernel
from jobrunner.clock import utc_now
from jobrunner.dispatcher.catalogue import Catalogue, describe
from jobrunner.dispatcher.loop import Dispatcher
from jobrunner.dispatcher.notify import notify
from jobrunner.dispatcher.outage import Outage
from jobrunner.dispatcher.pool import WorkerPool
from jobrunner.dispatcher.tickets import Code, Limits
from jobrunner.errors import (
    JobrunnerError,
    LeaseLostError,
    PoolBrokenError,
    StoreUnavailableError,
    TaskModulesError,
)
from jobrunner.settings import Settings
from jobrunner.store import migrations
from jobrunner.store.engine import Store
from jobrunner.wakeup import DISPATCHERS, Bell

PAUSE_SECONDS: Final = 0.5  #: after the store could not be used
EXTEND_SECONDS: Final = 30.0  #: what the service manager grants a start between two tries
QUIET_SECONDS: Final = (
    2.5  #: without a failure until an outage is over: not every step writes, a heartbeat does
)
#: that the loop may keep Python's lock from the Pool's own threads, which hand over the tickets; 5 ms by default
SWITCH_SECONDS: Final = 0.0001
STATUSES: Final = ((PoolBrokenError, os.EX_SOFTWARE), (LeaseLostError, os.EX_TEMPFAIL))

log = logging.getLogger("jobrunner.dispatcher")


def run(settings: Settings) -> NoReturn:
    """Be the dispatcher until SIGTERM or SIGINT has drained it, then end the process.

    SIGTERM: start nothing more, wait `drain_seconds`, give back the rest.  A second one: give back now.
    SIGHUP: load the task modules anew; a running job keeps the code that it started with.

    Raises:
        JobrunnerError: it cannot start; the message names the remedy.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    kernel.adopt_orphans()  # so that nothing of a worker that was killed is left behind
    store = Store(settings.url)
    migrations.prepare(store)
    limits = Limits(**{name: getattr(settings, name) for name in Limits._fields})
    catalogue = describe(Code(1, settings.tasks), limits)
    pool = WorkerPool(
        settings.workers,
        code=catalogue.code,
        limits=limits,
        store_url=settings.url,
        data=settings.data,
        log_level=settings.log_level,
    )
    daemon = _Daemon(settings, store, pool, limits)
    try:
        daemon.run(catalogue)
    except BaseException as error:  # noqa: BLE001 - whatever it is, Python's farewells would wait for ever
        daemon.break_down(error)


class _Daemon:
    """The loop with the outside world around it."""

    def __init__(self, settings: Settings, store: Store, pool: WorkerPool, limits: Limits) -> None:
        self._settings = settings
        self._store = store
        self._pool = pool
        self._limits = limits
        self._dispatcher: Dispatcher | None = None
        self._outage = Outage(log, quiet_seconds=QUIET_SECONDS)
        self._signals: list[int] = []
        self._draining = False
        self._generation = 1
        self._loader = ThreadPoolExecutor(
            1, "task-modules"
        )  # importing may take long, the loop must not wait
        self._loading: Future[Catalogue] | None = None
        self._load_again = False
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def run(self, catalogue: Catalogue) -> NoReturn:
        """Come up, step until drained, then end the process."""
        self._pool.wait_until_ready()
        self._dispatcher = dispatcher = self._registered(catalogue)
        self._bell = Bell(self._settings.data / DISPATCHERS, f"{dispatcher.id}.sock")
        self._selector = selectors.DefaultSelector()
        for fd in (self._wakeup, self._bell.fileno(), *self._pool.bells):
            self._selector.register(fd, selectors.EVENT_READ)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda number, _: self._note(number))
        notify("READY=1")
        log.info(
            "ready: %d workers, dispatcher %d; jobs are kept for %s if they succeeded, else for %s",
            self._pool.size,
            dispatcher.id,
            durations.in_words(self._settings.keep_succeeded),
            durations.in_words(self._settings.keep_failed),
        )
        rest_seconds = self._step(dispatcher)
        while not dispatcher.is_drained:
            self._wait(rest_seconds)
            rest_seconds = self._step(dispatcher)
        notify("STOPPING=1")
        self._pool.close()
        dispatcher.end(utc_now())
        self._bell.close()
        log.info("stopped")
        _exit_now(os.EX_OK)

    def _registered(self, catalogue: Catalogue) -> Dispatcher:
        """Enter the store, however long that takes: to end would cost the Pool and its imports, each time."""
        while True:
            self._pool.check()
            try:
                return Dispatcher(self._store, self._pool, catalogue, self._settings, now=utc_now())
            except StoreUnavailableError as error:
                self._outage.goes_on(error)
                notify(f"EXTEND_TIMEOUT_USEC={EXTEND_SECONDS * 1e6:.0f}\nSTATUS={error}")
            time.sleep(PAUSE_SECONDS)  # no signal is caught yet: SIGTERM ends it here

    def _step(self, dispatcher: Dispatcher) -> float:
        while self._signals:
            self._obey(self._signals.pop(0), dispatcher)
        try:
            if self._loading is not None and self._loading.done():
                self._serve_what_was_loaded(self._loading, dispatcher)
            rest = dispatcher.step(utc_now())
        except StoreUnavailableError as error:
            self._outage.goes_on(error)
            notify(f"WATCHDOG=1\nSTATUS={error}")  # the store is in trouble, the loop is not
            return PAUSE_SECONDS
        self._outage.may_be_over()
        return rest

    def _wait(self, seconds: float) -> None:
        if self._signals:
            return
        ready = {key.fd for key, _ in self._selector.select(seconds)}
        if self._bell.fileno() in ready and self._dispatcher is not None:
            self._bell.clear()
            self._dispatcher.hear_bell()
        if self._wakeup in ready:
            os.eventfd_read(self._wakeup)

    # -- signals -----------------------------------------------------------------------------------

    def _note(self, signum: int) -> None:
        self._signals.append(signum)
        os.eventfd_write(self._wakeup, 1)

    def _obey(self, signum: int, dispatcher: Dispatcher) -> None:
        if signum == signal.SIGHUP:
            self._reload()
            return
        again = self._draining
        self._draining = True
        seconds = 0.0 if again else self._settings.drain_seconds
        log.info("draining: what still runs in %g seconds goes back to the queue", seconds)
        notify("STOPPING=1")
        dispatcher.drain(utc_now(), seconds)

    def _reload(self) -> None:
        self._load_again = self._loading is not None  # it may have read a module that was written since
        if self._loading is not None:
            return
        notify("RELOADING=1")
        self._generation += 1
        code = Code(self._generation, self._settings.tasks)
        self._loading = self._loader.submit(describe, code, self._limits)
        self._loading.add_done_callback(lambda _: os.eventfd_write(self._wakeup, 1))

    def _serve_what_was_loaded(self, loading: Future[Catalogue], dispatcher: Dispatcher) -> None:
        try:
            catalogue = loading.result()
        except (TaskModulesError, OSError) as error:
            log.error("not reloaded, the tasks stay as they were: %s", error)  # noqa: TRY400 - no fault of ours
        else:
            dispatcher.serve(
                catalogue, utc_now()
            )  # if the store cannot be written now, the next step tries again
            log.info("reloaded: %d tasks", len(catalogue.tasks))
        self._loading = None
        notify("READY=1")
        if self._load_again:
            self._reload()

    # -- the sudden end ------------------------------------------------------------------------------

    def break_down(self, error: BaseException) -> NoReturn:
        """Kill everything, give back what ran, and leave; what cannot be given back is found by its lease."""
        expected = isinstance(error, JobrunnerError | KeyboardInterrupt)
        log.critical(
            "%s; ending, to be started again",
            str(error) or "interrupted",
            exc_info=None if expected else error,
        )
        victims = self._pool.kill()
        if self._dispatcher is not None and not isinstance(error, LeaseLostError):
            try:
                self._dispatcher.end(utc_now(), victims)
            except StoreUnavailableError as worse:
                log.error("%s; its jobs wait for its lease to end", worse)  # noqa: TRY400 - no fault of ours
        if self._dispatcher is not None:
            self._bell.close()
        _exit_now(next((status for kind, status in STATUSES if isinstance(error, kind)), os.EX_OSERR))


def _exit_now(status: int) -> NoReturn:
    """End without Python's farewells: the Pool's would wait for locks that nobody gives back."""
    logging.shutdown()
    os._exit(status)
