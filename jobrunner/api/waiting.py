"""Waiting for news of a job: `Prefer: wait=N` (RFC 7240) and `?wait=N` mean the same.

A wait that runs out is no error: the answer is what there is then.
"""

import re
import select
import socket
import time
from collections.abc import Callable
from typing import Final, TypeVar

from flask import Response, g, request

from jobrunner.api import auth
from jobrunner.api.context import this_api
from jobrunner.api.watcher import ANY_JOB
from jobrunner.lifecycle import FINAL
from jobrunner.store import jobs
from jobrunner.store.lookout import Standing

SLICE_SECONDS: Final = 10.0  #: between two looks whether the client is still there
LOOKING_SHARE: Final = 0.25  #: of a core, that goes into looks of `until_some` at most
_Found = TypeVar("_Found")
_WAIT: Final = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


def seconds(asked: int | None) -> float:
    """Return for how long the client would wait, at most `max_wait`; `asked` is what the query string says.

    A HEAD does not wait: there is nothing to wait for in its answer.
    """
    if request.method == "HEAD":
        return 0.0
    preferred = _WAIT.search(request.environ.get("HTTP_PREFER", ""))  # of several, WSGI makes one
    if asked is None and preferred is not None:
        asked = g.preferred_wait = int(preferred[1])
    return min(asked or 0.0, this_api().settings.max_wait)


def until(
    job_id: int,
    is_enough: Callable[[Standing], bool],
    wait_seconds: float,
    is_news: Callable[[Standing], bool] | None = None,
) -> None:
    """Return when it is enough how the job stands, time is up, or too many wait already.

    Args:
        job_id: of the job.
        is_enough: of how it stands.
        wait_seconds: from now on.
        is_news: whether to ask again if it is enough, where that takes more than a glance; it is asked for each commit
            of anybody, in another thread.

    Raises:
        JobNotFoundError: there is no such job, or no more.
    """
    if wait_seconds <= 0:
        return
    api, client_is_gone = this_api(), client()
    give_up_at = time.monotonic() + wait_seconds
    with api.watcher.place() as is_free, api.watcher.waiter(job_id, is_news or is_enough) as waiter:
        while is_free and not api.watcher.is_closed:
            standing = Standing(*jobs.version(api.store, job_id))
            left = give_up_at - time.monotonic()
            if is_enough(standing) or left <= 0 or client_is_gone():
                break
            if waiter.wait(min(left, SLICE_SECONDS)) and is_news is None:
                break  # the watcher has seen that it is enough
    auth.check()  # its token may have been revoked meanwhile


def until_some(look: Callable[[], list[_Found]], wait_seconds: float) -> list[_Found]:
    """Return what `look` finds, as soon as it finds anything; it looks again when something has been committed.

    The more its looks cost, and the more wait beside it, the longer it rests after each.
    """
    api, client_is_gone = this_api(), client()
    give_up_at = time.monotonic() + wait_seconds
    with api.watcher.place() as is_free, api.watcher.waiter(ANY_JOB) as waiter:
        while True:
            began_at = time.thread_time()
            found = look()
            cost_seconds = time.thread_time() - began_at
            left = give_up_at - time.monotonic()
            if found or not is_free or api.watcher.is_closed or left <= 0 or client_is_gone():
                return found
            rest_seconds = min(cost_seconds * api.watcher.waiting / LOOKING_SHARE, left, SLICE_SECONDS)
            api.watcher.rest(rest_seconds)
            waiter.wait(min(left, SLICE_SECONDS) - rest_seconds)


def until_final(job_id: int, wait_seconds: float) -> None:
    """Return when the job is final, or as `until` does."""
    until(job_id, lambda standing: standing.state in FINAL, wait_seconds)


def until_other_than_known(job_id: int, wait_seconds: float) -> None:
    """Return when the job has a version that the client does not know; to one who knows none, when it is final."""
    known = request.if_none_match
    if known:
        until(job_id, lambda standing: not known.contains_weak(str(standing.version)), wait_seconds)
    else:
        until_final(job_id, wait_seconds)


def client() -> Callable[[], bool]:
    """Return a function that says whether the client of the request at hand has closed its connection.

    Whose token is not in force any more counts as gone.
    """
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    lasts = auth.lasting()

    def is_gone() -> bool:
        if not lasts():
            return True
        if connection is None:
            return False
        try:
            look = select.poll()  # not select(): it takes no descriptor above 1023
            look.register(connection, select.POLLIN)
            return bool(look.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):  # it is closed on our side too
            return True

    return is_gone


def with_preference(response: Response) -> Response:
    """Return `response`, with an echo of the preference that was heard."""
    if "preferred_wait" in g:
        response.headers["Preference-Applied"] = f"wait={g.preferred_wait}"
    return response
