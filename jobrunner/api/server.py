"""The API under gunicorn, in this very process."""

import contextlib
import ipaddress
import logging
import os
import resource
from collections.abc import Callable
from typing import Any, Final

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]
from gunicorn.util import parse_address  # type: ignore[import-untyped]
from sqlalchemy import Connection

from jobrunner import logs
from jobrunner.api.app import create_app
from jobrunner.api.context import Api
from jobrunner.errors import SettingError, StoreError
from jobrunner.settings import Settings
from jobrunner.store import migrations, tokens
from jobrunner.store.engine import Store

_log: Final = logging.getLogger(__name__)


def run(settings: Settings, bind: str | None = None) -> None:
    """Serve until SIGTERM, then end the process.

    A socket that systemd passes (`LISTEN_FDS`) is taken instead of any address.

    Args:
        settings: where to listen, with how many processes and threads.
        bind: `host:port`, `unix:path` or `fd://number` in the place of the settings' own.

    Raises:
        SettingError: the address could be reached from other machines, and there is no token.
        StoreError: `database_url` names no store that this version can use.
    """
    address = bind or f"{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    needs_token = not _is_given_by_systemd() and needs_token_at(address, settings)
    if not needs_token:
        _say_if_open(address, settings)
    _Server(settings, address, needs_token=needs_token).run()


def _is_given_by_systemd() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and int(os.environ.get("LISTEN_FDS", "0")) > 0


def needs_token_at(address: str, settings: Settings) -> bool:
    """Return whether `address` can be reached from other machines, so that every request needs a token.

    Raises:
        SettingError: it can, and there is no token.
        StoreError: it can, and whether there is one cannot be known.
    """
    parsed = parse_address(address)
    if not isinstance(parsed, tuple) or _is_loopback(parsed[0]):
        return False
    if not _asked(settings, lambda connection: bool(tokens.in_force(connection))):
        allowed = (
            "a loopback address such as 127.0.0.1, or a socket passed by systemd, while there are no tokens: "
            "make one with `jobrunner token create NAME --scope admin`"
        )
        raise SettingError("host", "the address to listen on", parsed[0], allowed)
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: of all that there are, this one alone is known to stay on the machine
        return host == "localhost"


def _say_if_open(address: str, settings: Settings) -> None:
    with contextlib.suppress(StoreError):  # it will be told to whoever asks for anything
        if not _asked(settings, tokens.ever_made):
            _log.info(
                "there are no tokens: whoever can connect to %s may do everything; "
                "`jobrunner token create` makes one",
                address,
            )


def _asked(settings: Settings, question: Callable[[Connection], bool]) -> bool:
    """Return what the store says; it has no connection open afterwards, for none may cross a fork."""
    store = Store(settings.url)
    if not store.path.exists():
        return False
    try:
        migrations.check(store)
        with store.read() as connection:
            return question(connection)
    finally:
        store.close()


def most_connections(threads: int) -> int:
    """Return how many connections a process may hold open: it needs files for the store, too."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = 1000 if files == resource.RLIM_INFINITY else files // 2 - threads
    return threads + min(max(16, room), 1000)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own, but its lines look like ours."""

    error_fmt = logs.line_format("api")
    datefmt = logs.TIME_FORMAT


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn asks of an application that configures itself."""

    def __init__(self, settings: Settings, address: str, *, needs_token: bool = False) -> None:
        self._settings = settings
        self._address = address
        self._needs_token = needs_token
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn our settings; nothing is read from its own files or variables."""
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def load(self) -> Api:
        """Return the application; before the workers are forked, so a fault in it ends the start."""
        return create_app(self._settings, needs_token=self._needs_token)

    def _options(self) -> dict[str, Any]:
        threads = self._settings.api_threads + self._settings.max_waiting
        return {
            "bind": [self._address],
            "worker_class": "jobrunner.api.gunicorn_worker.ProblemWorker",
            "pre_fork": "jobrunner.api.gunicorn_worker.pre_fork",
            "workers": self._settings.api_workers,
            "threads": threads,
            "worker_connections": most_connections(threads),
            "preload_app": True,  # else systemd hears READY=1 before the application is there
            "control_socket_disable": True,  # it is on by default, and fails in a hardened unit
            "timeout": 60,  # seconds without a sign of life from a worker process
            "graceful_timeout": 10,
            "keepalive": 15,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": self._settings.log_level,
            "logger_class": Logger,
            "proc_name": "jobrunner-api",
        }
