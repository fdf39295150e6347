"""The API under gunicorn, in this very process."""

import contextlib
import ipaddress
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]
from gunicorn.systemd import SD_LISTEN_FDS_START  # type: ignore[import-untyped]
from sqlalchemy import Connection

from jobrunner import logs
from jobrunner.api.app import create_app
from jobrunner.api.context import Api
from jobrunner.errors import SettingError, StoreError
from jobrunner.settings import Settings
from jobrunner.store import migrations, tokens
from jobrunner.store.engine import Store

_FILES: Final = 50  # that a process opens for itself
_FILES_OF_A_THREAD: Final = 3  # for its connection to the store
_IDLE: Final = 1000  # connections on which nothing comes, at most

_log: Final = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM, then end the process.

    A socket that systemd passes (`LISTEN_FDS`) is taken instead of any address.

    Args:
        settings: where to listen, with how many processes and threads.

    Raises:
        SettingError: the address could be reached from other machines, and there is no token.
        StoreError: `database_url` names no store that this version can use.
    """
    address = f"{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    needs_token = needs_token_at(_passed_by_systemd() or [(settings.host, settings.port)], settings)
    if not needs_token:
        _say_if_open(address, settings)
    _Server(settings, address, needs_token=needs_token).run()


def needs_token_at(names: Iterable[Any], settings: Settings) -> bool:
    """Return whether the API can be reached there from other machines, so that every request needs a token.

    Args:
        names: of the sockets on which it listens: (host, port, ...), or a path.
        settings: where the store is.

    Raises:
        SettingError: it can, and there is no token.
        StoreError: it can, and whether there is one cannot be known.
    """
    elsewhere = [name[0] for name in names if isinstance(name, tuple) and not _is_loopback(name[0])]
    if not elsewhere:
        return False
    if not _asked(settings, lambda connection: bool(tokens.in_force(connection))):
        allowed = (
            "a loopback address such as 127.0.0.1 while there are no tokens: "
            "make one with `jobrunner token create NAME --scope admin`"
        )
        raise SettingError("host", "the address to listen on", elsewhere[0], allowed)
    return True


def _passed_by_systemd() -> list[Any]:
    """Return the names of the sockets that systemd passes: (host, port, ...), or a path."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = []
    for number in range(int(os.environ["LISTEN_FDS"])):
        with socket.socket(fileno=os.dup(SD_LISTEN_FDS_START + number)) as listener:
            names.append(listener.getsockname())
    return names


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
    """Return how many connections a process may hold open; from here on it may open as many files as that takes."""
    store = _FILES + _FILES_OF_A_THREAD * threads
    return threads + max(16, min(_files(store + threads + _IDLE) - store - threads, _IDLE))


def _files(wanted: int) -> int:
    """Return how many files this process may open, after an attempt to make it so many."""
    unlimited = resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    better = wanted if hard == unlimited else min(wanted, hard)
    if soft != unlimited and soft < better:
        with contextlib.suppress(OSError, ValueError):  # a filter of system calls may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (better, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == unlimited else soft


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own, but its lines look like ours."""

    error_fmt = logs.line_format("api")
    datefmt = logs.TIME_FORMAT

    def debug(self, *_args: object, **_kwargs: object) -> None:
        """Say nothing: it would tell what came over a connection, tokens too."""


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
            "forwarder_headers": "",  # else a client on this machine, or behind a proxy on it, may set SCRIPT_NAME
            "timeout": 60,  # seconds without a sign of life from a worker process
            "graceful_timeout": 10,
            "keepalive": 15,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": self._settings.log_level,
            "logger_class": Logger,
            "proc_name": "jobrunner-api",
        }
