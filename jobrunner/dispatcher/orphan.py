"""Whether the dispatcher that started this process still lives."""

import multiprocessing


def is_orphan() -> bool:
    """Return whether the process that asked for this one is gone; the forkserver between them does not count."""
    parent = multiprocessing.parent_process()
    return parent is None or not parent.is_alive()
