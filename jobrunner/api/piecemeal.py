"""Answers about a map job that may be larger than memory: each piece is read when the one before it has been taken.

What is small is answered at once.  For the rest a place is taken among those who wait.
"""

import errno
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from flask import Response, request

from jobrunner.api.context import Api, this_api
from jobrunner.api.following import pieces
from jobrunner.api.refusals import TooManyWaitingError
from jobrunner.api.replies import NDJSON, wants_lines
from jobrunner.api.waiting import client
from jobrunner.errors import JobNotFoundError, StoreError
from jobrunner.store.items import Values, all_values
from jobrunner.store.jobs import Job

_AT_ONCE_BYTES: Final = 1 << 20  # of an answer, beside its last piece, that needs no place
_VALUES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_log: Final = logging.getLogger(__name__)


def values_of(job: Job) -> Response:
    """Answer the values of a map job that has succeeded, in the order of its items: as a list, or one on each line."""
    rows = _all(all_values(this_api().store, job.id), job)
    if wants_lines():
        answer = told(job.id, map(_lines, rows), NDJSON)
    else:
        answer = told(job.id, _as_list(rows), "application/json")
    answer.vary.add("Accept")
    return answer


def _all(rows: Iterable[Values], job: Job) -> Iterator[Values]:
    """Yield the rows, which must leave out no item: what lacks one must not look like a result."""
    index = 0
    for row in rows:
        if row.first != index:
            break
        yield row
        index += row.item_count
    if index != job.item_count:
        raise AssertionError(f"job {job.id} has succeeded, but there is no value of its item {index}")


def _lines(row: Values) -> bytes:
    return b"".join(bytes(value) + b"\n" for value in _VALUES.decode(row.data))


def _as_list(rows: Iterable[Values]) -> Iterator[bytes]:
    opening = b"["
    for row in rows:
        yield opening + row.data.strip()[1:-1].encode()
        opening = b","
    yield b"]\n"


def told(job_id: int, frames: Iterator[bytes], mimetype: str) -> Response:
    """Answer these bytes, which are read from the store bit by bit.

    If they cannot be read to their end, because the job was deleted, say, the connection is closed in the middle of
    the body, so that its client takes no part for the whole.

    Raises:
        TooManyWaitingError: so many wait already that nobody else may, and the answer is large.
        JobNotFoundError: there is no such job, or no more.
        StoreError: the store cannot be read.
    """
    if request.method == "HEAD":
        return Response(mimetype=mimetype)
    sent = pieces(frames)
    head: list[bytes] = []
    while sum(map(len, head)) < _AT_ONCE_BYTES:
        piece = next(sent, None)
        if piece is None:
            return Response(b"".join(head), mimetype=mimetype)
        head.append(piece)
    rest = _rest(this_api(), job_id, sent, client_is_gone=client())
    next(rest)  # while a refusal can still be answered
    return Response(itertools.chain(head, rest), mimetype=mimetype)


def _rest(
    api: Api, job_id: int, sent: Iterator[bytes], *, client_is_gone: Callable[[], bool]
) -> Iterator[bytes]:
    """Yield an empty piece once there is a place, then the others."""
    with api.watcher.place() as is_free:
        if not is_free:
            raise TooManyWaitingError(api.settings.max_waiting)
        yield b""
        try:
            for piece in sent:
                if api.watcher.is_closed or client_is_gone():
                    raise _broken_off(job_id, "nobody may wait for it any more")
                yield piece
        except (JobNotFoundError, StoreError) as error:
            raise _broken_off(job_id, str(error)) from error


def _broken_off(job_id: int, why: str) -> OSError:
    _log.info("what is told of job %d breaks off: %s", job_id, why)
    # As if the client had gone: gunicorn closes the connection, and makes no fuss of it.
    return BrokenPipeError(errno.EPIPE, why)
