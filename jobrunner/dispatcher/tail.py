"""The end of what a job process has done of a chunk, in memory that its worker can read when it is dead.

To send each value by itself would cost more than most items do; to collect them would lose, with the process, what
was done already.  So a value is put here at once, and sent with the others when enough have come together.  Private as
the Pipe is: a worker and its job process share it, nobody else.
"""

import mmap
import os
from typing import Final, NamedTuple, Self

BYTES: Final = 128 << 10  #: of values, before they are sent
_HEADER_BYTES: Final = 64
_FIRST, _USED, _CURRENT = range(3)  # places in the header


class Seen(NamedTuple):
    """What a tail holds: `values`, separated by commas, from the item `first` on; `current` was begun last."""

    first: int
    values: bytes
    current: int


class Tail:
    """One mapping of it.  A job process calls `start`, `append`, `sent`; its worker `begin` and `see`.

    Attributes:
        header: the index of the first item whose value is here, bytes used, the index of the item begun last.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _HEADER_BYTES + BYTES)
        self.header = memoryview(self._map).cast("q")
        self._used = 0

    @classmethod
    def create(cls) -> tuple[Self, int]:
        """Return a new one, and the descriptor by which another process maps it."""
        fd = os.memfd_create("jobrunner-tail", os.MFD_CLOEXEC)
        os.ftruncate(fd, _HEADER_BYTES + BYTES)
        return cls(fd), fd

    # -- the job process --------------------------------------------------------------------------

    def append(self, value: bytes) -> bool:
        """Put the next item's value here, unless there is no room for it: then send what is here."""
        start, end = self._used, self._used + len(value)
        if end >= BYTES:
            return False
        at = _HEADER_BYTES + start
        self._map[at : at + len(value) + 1] = value + b","
        self._used = end + 1
        self.header[_USED] = self._used  # written last: half a value is none
        return True

    def take(self) -> bytes:
        """Return what is here, without the last comma; it stays here until it is said to be `sent`."""
        return self._map[_HEADER_BYTES : _HEADER_BYTES + max(0, self._used - 1)]

    @property
    def first(self) -> int:
        """The item whose value is the first one here."""
        return self.header[_FIRST]

    def sent(self, following: int) -> None:
        """What was here is on its way; the next value will be that of the item `following`."""
        # In this order: killed in between, it holds nothing.
        self.header[_USED] = self._used = 0
        self.header[_FIRST] = following

    def start(self, item: int) -> None:
        """The item is begun."""
        self.header[_CURRENT] = item

    # -- the worker -------------------------------------------------------------------------------

    def begin(self, first: int) -> None:
        """Empty it, while the job process has nothing to do, for a chunk that begins with the item `first`."""
        self.header[_USED], self.header[_FIRST], self.header[_CURRENT] = 0, first, first - 1

    @property
    def current(self) -> int:
        """The item that was begun last."""
        return self.header[_CURRENT]

    def see(self) -> Seen:
        """Return what is here.  User code may have written all over it: believe nothing."""
        first, used, current = self.header[:3]
        values = self._map[_HEADER_BYTES : _HEADER_BYTES + min(max(0, used - 1), BYTES)]
        return Seen(first, values, current) if self.header[_FIRST] == first else Seen(first, b"", current)

    def close(self) -> None:
        """Let go of the memory."""
        self.header.release()
        self._map.close()
