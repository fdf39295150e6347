"""Messages between a worker and its job process: one line each, a letter and then JSON.

The Pipe's file descriptor is read in bulk and split, so a task that yields 20,000 values a second costs its
worker a few reads, not 20,000.  JSON never holds a raw line feed.
"""

import os
from enum import Enum
from typing import Final

READ_BYTES: Final = 1 << 18


class Kind(bytes, Enum):
    """The letter that a line from a job process starts with."""

    IMPORTING = b"m"  #: a module's name: if this is the last word, that module killed the process
    HELLO = b"h"  #: ready; {"tasks", "errors" by module, "refused"}
    PARTIAL = b"p"  #: a value that the task yielded
    PROGRESS = b"g"  #: {"done", "total", "message"}
    USAGE = b"u"  #: {"cpu_seconds", "peak_memory_bytes"} of the attempt; before its last line
    RESULT = b"r"  #: what the task returned: the attempt's last line
    ERROR = b"x"  #: {"kind", "type", "message", "traceback"}: the attempt's last line


class LineReader:
    """Reads whole lines from a file descriptor that may or may not block."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest: list[bytes] = []  # the beginning of a line whose end has not come yet

    def read(self) -> list[bytes]:
        """Return the lines that one read completes, perhaps none, without their line feeds.

        Raises:
            EOFError: the other end is closed.
            BlockingIOError: nothing is there, and the descriptor does not block.
        """
        try:
            data = os.read(self._fd, READ_BYTES)
        except ConnectionResetError:  # the other end died with unread data in its socket
            data = b""
        if not data:
            raise EOFError
        first, *others = data.split(b"\n")
        self._rest.append(first)
        if not others:
            return []
        *whole, rest = (b"".join(self._rest), *others)
        self._rest = [rest] if rest else []
        return whole


def write(fd: int, data: bytes) -> None:
    """Write all of `data` to a blocking descriptor."""
    view = memoryview(data)
    while view:  # a signal may cut a write short
        view = view[os.write(fd, view) :]
