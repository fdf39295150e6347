"""For those who run gunicorn themselves: `gunicorn -c deploy/gunicorn.conf.py` serves the API.

`jobrunner api`, which the units run, needs no such file and sets the same.  Settings come from
JOBRUNNER_<NAME>, or from the TOML file that JOBRUNNER_CONFIG names, or from `jobrunner.toml`.
"""

import os
from pathlib import Path
from typing import Any

from jobrunner.api.app import create_app
from jobrunner.api.context import Api
from jobrunner.api.server import Logger, most_connections, needs_token_at
from jobrunner.settings import load

_file = os.environ.get("JOBRUNNER_CONFIG")
_settings = load({}, os.environ, Path(_file) if _file else None)


def application() -> Api:
    """Return what gunicorn serves."""
    return create_app(_settings)


def when_ready(arbiter: Any) -> None:
    """End the start if others could come in without a token, wherever `-b` has gunicorn listen."""
    if needs_token_at([listener.sock.getsockname() for listener in arbiter.LISTENERS], _settings):
        arbiter.app.wsgi().keyring.lock()


wsgi_app = "__config__:application()"  # gunicorn's name for this file
_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host
bind = [f"{_host}:{_settings.port}"]

worker_class = "jobrunner.api.gunicorn_worker.ProblemWorker"
pre_fork = "jobrunner.api.gunicorn_worker.pre_fork"  # no signal is lost while a worker starts
workers = _settings.api_workers
threads = _settings.api_threads + _settings.max_waiting  # who waits holds one
worker_connections = most_connections(threads)
preload_app = True  # else systemd hears READY=1 before the application is there
control_socket_disable = True  # it is on by default, and fails in a hardened unit
forwarder_headers = ""  # else a client on this machine, or behind a proxy on it, may set SCRIPT_NAME
timeout = 60  # seconds without a sign of life from a worker process
graceful_timeout = 10
keepalive = 15
loglevel = _settings.log_level
logger_class = Logger
proc_name = "jobrunner-api"
