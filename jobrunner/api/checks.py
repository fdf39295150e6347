"""What the service needs to be of use, checked one by one."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection

from jobrunner.api.context import Api
from jobrunner.api.replies import situation
from jobrunner.errors import StoreError
from jobrunner.store import catalogue, dispatchers
from jobrunner.store.dispatchers import Dispatcher


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
    with api.store.write(durable=False):
        return "a write transaction can begin"


def _dispatcher(api: Api) -> str:
    with api.store.read() as connection:
        fresh = _fresh(connection)
    if not fresh:
        lease = api.settings.lease_seconds
        raise _NotMetError(
            f"none has given a sign of life for {lease:g} s: is `jobrunner dispatcher` running?"
        )
    return f"{len(fresh)} alive, {sum(one.workers for one in fresh)} workers"


def _tasks(api: Api) -> str:
    with api.store.read() as connection:
        names = catalogue.names(connection)
        fresh = _fresh(connection)
    failed: dict[str, str] = {}
    for one in fresh:
        failed |= json.loads(one.module_errors)
    if failed:
        raise _NotMetError("; ".join(f"{module}: {_in_one_line(why)}" for module, why in failed.items()))
    return f"{len(names)} published, every module can be imported"


def _sqlite(_: Api) -> str:
    return f"version {sqlite3.sqlite_version}"


def _fresh(connection: Connection) -> list[Dispatcher]:
    around = situation(connection)
    return [one for one in dispatchers.alive(connection) if around.is_fresh(one)]


def _in_one_line(why: str) -> str:
    """Return the line that says it: of a traceback the last, else the first."""
    lines = [line for line in why.splitlines() if line.strip()] or ["it cannot be imported"]
    return lines[-1 if lines[0].startswith("Traceback") else 0].strip()


_CHECKS: Final[Mapping[str, Callable[[Api], str]]] = {
    "schema": _schema,
    "store": _writable,
    "dispatcher": _dispatcher,
    "tasks": _tasks,
    "sqlite": _sqlite,
}
