"""What a reduce task gets: the values of a map job's items, in order, as lines that follow its ticket."""

import logging
from collections.abc import Iterator
from typing import Final

from jobrunner.errors import StoreUnavailableError
from jobrunner.store import maps
from jobrunner.store.engine import Store

END: Final = b"null\n"  #: the last of these lines; each other one is a list of values

log = logging.getLogger("jobrunner.worker")


def values_to_reduce(store: Store, job_id: int) -> Iterator[bytes]:
    """Yield the lines; an empty one where the store cannot be read now: ask again later."""
    following = 0
    while True:
        try:
            with store.read() as connection:
                rows = maps.values_from(connection, job_id, following)
        except StoreUnavailableError as error:
            log.warning("the values of job %d cannot be read, and are waited for: %s", job_id, error)
            yield b""
            continue
        if not rows:
            yield END
            return
        for first, count, data in rows:
            following = first + count
            yield data.encode() + b"\n"
