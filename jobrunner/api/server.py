"""The API under gunicorn, in this very process."""

import ipaddress
import os
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]
from gunicorn.util import parse_address  # type: ignore[import-untyped]

from jobrunner import logs
from jobrunner.api.app import create_app
from jobrunner.api.context import Api
from jobrunner.errors import SettingError
from jobrunner.settings import Settings


def run(settings: Settings, bind: str | None = None) -> None:
    """Serve until SIGTERM, then end the process.

    A socket that systemd passes (`LISTEN_FDS`) is taken instead of any address.

    Args:
        settings: where to listen, with how many processes and threads.
        bind: `host:port`, `unix:path` or `fd://number` in the place of the settings' own.

    Raises:
        SettingError: the address could be reached from other machines.
        StoreError: `database_url` names no store that this version can use.
    """
    address = bind or f"{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    if not _is_given_by_systemd():
        require_loopback(address)
    _Server(settings, address).run()


def _is_given_by_systemd() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and int(os.environ.get("LISTEN_FDS", "0")) > 0


def require_loopback(address: str) -> None:
    """Raise SettingError if whoever reaches this machine could reach `address`.

    There are no tokens yet: whoever can connect may run what the tasks allow.
    """
    parsed = parse_address(address)
    if isinstance(parsed, tuple) and not _is_loopback(parsed[0]):
        allowed = (
            "a loopback address such as 127.0.0.1, or a socket passed by systemd: there are no tokens yet"
        )
        raise SettingError("host", "the address to listen on", parsed[0], allowed)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: of all that there are, this one alone is known to stay on the machine
        return host == "localhost"


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own, but its lines look like ours."""

    error_fmt = logs.line_format("api")
    datefmt = logs.TIME_FORMAT


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn asks of an application that configures itself."""

    def __init__(self, settings: Settings, address: str) -> None:
        self._settings = settings
        self._address = address
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn our settings; nothing is read from its own files or variables."""
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def load(self) -> Api:
        """Return the application; before the workers are forked, so a fault in it ends the start."""
        return create_app(self._settings)

    def _options(self) -> dict[str, Any]:
        return {
            "bind": [self._address],
            "worker_class": "jobrunner.api.gunicorn_worker.ProblemWorker",
            "pre_fork": "jobrunner.api.gunicorn_worker.pre_fork",
            "workers": self._settings.api_workers,
            "threads": self._settings.api_threads,
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
