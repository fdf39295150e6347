"""Whether the dispatcher that started this process still lives."""

import functools
import multiprocessing
import select


def is_orphan() -> bool:
    """Return whether the process that asked for this one is gone; the forkserver between them does not count."""
    return bool(_death().poll(0))


@functools.cache
def _death() -> "select.poll":
    # Kept, for it is looked at twenty times a second; the process's own `is_alive` makes one each time.
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("nobody has started this process through multiprocessing")
    death = select.poll()
    death.register(parent.sentinel, select.POLLIN)
    return death
