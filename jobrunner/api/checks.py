"""What the service needs to be of use, checked one by one."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection

from jobrunner.api import modules
from jobrunner.api.context import Api
from jobrunner.api.replies import situation
from jobrunner.errors import StoreError
from jobrunner.store import catalogue, dispatchers
from jobrunner.store.dispatchers import Dispatcher
from jobrunner.store.engine import CHECKPOINT_BYTES_WITHOUT_DAEMON


class _NotMetError(Exception):
    """Something that the service needs is missing."""


def run(api: Api) -> list[dict[str, Any]]:
    """Return, for each check, its name, whether it is `ok`, and one line of detail."""
    return [{"name": name, **_outcome(check, api)} for name, check in _CHECKS.items()]


def _outcome(check: Callable[[Api], str], api: Api) -> dict[str, Any]:
    try:
        return {"ok": True, "detail": check(api)}
    except (_NotMetError, StoreError) as error:
        return {"ok": False, "detail": " ".join(str(error).split())}


def _schema(api: Api) -> str:
    return f"{api.store.path} has the schema that this program was written for"


def _writable(api: Api) -> str:
    api.store.checkpoint_if_large(CHECKPOINT_BYTES_WITHOUT_DAEMON)  # each look makes the log a page longer
    api.store.try_to_write()
    return "it can be written"


def _dispatcher(api: Api) -> str:
    with api.store.read() as connection:
        fresh = _fresh(connection)
    if not fresh:
        lease = api.settings.lease_seconds
        raise _NotMetError(
            f"none is alive: it is still starting, or none was started, or it has been silent for over {lease:g} s"
        )
    return f"{len(fresh)} alive, {sum(one.workers for one in fresh)} workers"


def _tasks(api: Api) -> str:
    with api.store.read() as connection:
        names = catalogue.names(connection)
        broken = modules.broken(connection)
    if broken:
        raise _NotMetError("; ".join(f"{module}: {why}" for module, why in broken.items()))
    if not names:
        raise _NotMetError(
            "none is published: a dispatcher does that when it starts, with each function decorated with @task"
        )
    return f"{len(names)} published, every module can be imported"


def _sqlite(_: Api) -> str:
    return f"version {sqlite3.sqlite_version}"


def _fresh(connection: Connection) -> list[Dispatcher]:
    around = situation(connection)
    return [one for one in dispatchers.alive(connection) if around.is_fresh(one)]


_CHECKS: Final[Mapping[str, Callable[[Api], str]]] = {
    "schema": _schema,
    "store": _writable,
    "dispatcher": _dispatcher,
    "tasks": _tasks,
    "sqlite": _sqlite,
}
