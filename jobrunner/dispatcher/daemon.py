"""The daemon: brings everything up in order, turns signals into words to the loop, and takes everything down.

Crash-only: if the Pool breaks or the lease is lost, nothing is mended here.  What ran is given back, the process
ends with a status that is not 0, and its supervisor starts it again.
"""

import contextlib
import logging
import os
import selectors
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NoReturn

from jobrunner import kernel
from jobrunner.clock import utc_now
from jobrunner.dispatcher.catalogue import Catalogue, describe
from jobrunner.dispatcher.loop import Dispatcher
from jobrunner.dispatcher.notify import notify
from jobrunner.dispatcher.pool import WorkerPool
from jobrunner.dispatcher.tickets import Code, Limits
from jobrunner.errors import LeaseLostError, PoolBrokenError, StoreUnavailableError, TaskModulesError
from jobrunner.settings import Settings
from jobrunner.store import migrations
from jobrunner.store.engine import Store
from jobrunner.wakeup import Bell

PAUSE_SECONDS: Final = 0.5  #: after the store could not be used
POOL_BROKEN_STATUS: Final = os.EX_SOFTWARE
LEASE_LOST_STATUS: Final = os.EX_TEMPFAIL

log = logging.getLogger("jobrunner.dispatcher")


def run(settings: Settings) -> NoReturn:
    """Be the dispatcher until SIGTERM or SIGINT has drained it, then end the process.

    SIGTERM: start nothing more, wait `drain_seconds`, give back the rest.  A second one: give back now.
    SIGHUP: load the task modules anew; a running job keeps the code that it started with.

    Raises:
        JobrunnerError: it cannot start; the message names the remedy.
    """
    kernel.adopt_orphans()  # so that nothing of a worker that was killed is left behind
    store = Store(settings.url)
    migrations.prepare(store)
    limits = Limits(**{name: getattr(settings, name) for name in Limits._fields})
    catalogue = describe(Code(1, settings.tasks), limits)
    bells = settings.data / "dispatchers"
    pool = WorkerPool(
        settings.workers,
        code=catalogue.code,
        limits=limits,
        store_url=settings.url,
        bells=bells,
        log_level=settings.log_level,
    )
    try:
        pool.wait_until_ready()
    except PoolBrokenError as error:
        log.critical("%s", error)
        pool.kill()
        _exit_now(POOL_BROKEN_STATUS)
    dispatcher = Dispatcher(store, pool, catalogue, settings, now=utc_now())
    _Daemon(
        settings=settings,
        store=store,
        pool=pool,
        dispatcher=dispatcher,
        bell=Bell(bells, f"{dispatcher.id}.sock"),
        code=catalogue.code,
        limits=limits,
    ).run()


class _Daemon:
    """The loop with the outside world around it."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        pool: WorkerPool,
        dispatcher: Dispatcher,
        bell: Bell,
        code: Code,
        limits: Limits,
    ) -> None:
        self._settings = settings
        self._store = store
        self._pool = pool
        self._dispatcher = dispatcher
        self._bell = bell
        self._code = code
        self._limits = limits
        self._signals: list[int] = []
        self._loader = ThreadPoolExecutor(
            1, "task-modules"
        )  # importing may take long, the loop must not wait
        self._loading: Future[Catalogue] | None = None
        self._selector = selectors.DefaultSelector()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        for fd in (self._wakeup, bell.fileno(), *pool.bells):
            self._selector.register(fd, selectors.EVENT_READ)

    def run(self) -> NoReturn:
        """Step until drained, then end the process."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda number, _: self._note(number))
        notify("READY=1")
        log.info("ready: %d workers, dispatcher %d", self._pool.size, self._dispatcher.id)
        try:
            while not self._dispatcher.is_drained:
                self._wait(self._step())
        except (PoolBrokenError, LeaseLostError) as error:
            self._break_down(error)
        notify("STOPPING=1")
        self._pool.close()
        self._dispatcher.end(utc_now())
        self._loader.shutdown(cancel_futures=True)
        self._bell.close()
        log.info("stopped")
        _exit_now(os.EX_OK)

    def _step(self) -> float:
        now = utc_now()
        while self._signals:
            self._obey(self._signals.pop(0))
        if self._loading is not None and self._loading.done():
            self._serve_what_was_loaded(self._loading)
        try:
            return self._dispatcher.step(now)
        except StoreUnavailableError as error:
            log.warning("%s", error)
            return PAUSE_SECONDS

    def _wait(self, seconds: float) -> None:
        if not self._signals:
            ready = {key.fd for key, _ in self._selector.select(seconds)}
            if self._bell.fileno() in ready:
                self._bell.clear()
                self._dispatcher.hear_bell()
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)

    # -- signals -----------------------------------------------------------------------------------

    def _note(self, signum: int) -> None:
        self._signals.append(signum)
        os.eventfd_write(self._wakeup, 1)

    def _obey(self, signum: int) -> None:
        if signum == signal.SIGHUP:
            self._reload()
            return
        again = self._draining
        self._draining = True
        seconds = 0.0 if again else self._settings.drain_seconds
        log.info("draining: what still runs in %g seconds goes back to the queue", seconds)
        notify("STOPPING=1")
        self._dispatcher.drain(utc_now(), seconds)

    _draining = False

    def _reload(self) -> None:
        if self._loading is not None:
            return  # it has not read the modules for long
        notify("RELOADING=1")
        self._code = Code(self._code.generation + 1, self._settings.tasks)
        self._loading = self._loader.submit(describe, self._code, self._limits)
        self._loading.add_done_callback(lambda _: os.eventfd_write(self._wakeup, 1))

    def _serve_what_was_loaded(self, loading: Future[Catalogue]) -> None:
        self._loading = None
        try:
            catalogue = loading.result()
        except TaskModulesError as error:
            log.error("not reloaded, the old code stays in service: %s", error)  # noqa: TRY400 - no fault of ours
        else:
            self._dispatcher.serve(catalogue, utc_now())
            log.info("reloaded: %d tasks", len(catalogue.tasks))
        notify("READY=1")

    # -- the sudden end ------------------------------------------------------------------------------

    def _break_down(self, error: PoolBrokenError | LeaseLostError) -> None:
        """Kill everything, give back what ran, and leave."""
        log.critical("%s; ending, to be started again", error)
        victims = self._pool.kill()
        if isinstance(error, PoolBrokenError):
            self._dispatcher.end(utc_now(), victims)
        self._bell.close()
        _exit_now(POOL_BROKEN_STATUS if isinstance(error, PoolBrokenError) else LEASE_LOST_STATUS)


def _exit_now(status: int) -> NoReturn:
    """End without Python's farewells: the Pool's would wait for locks that nobody gives back."""
    logging.shutdown()
    os._exit(status)
