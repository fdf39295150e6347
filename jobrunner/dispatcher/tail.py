"""The end of what a job process has done of a chunk, in memory that its worker can read when it is dead.

To send each value by itself would cost more than most items do; to collect them would lose, with the process, what
was done already.  So a value is put here at once, and sent with the others when enough have come together.  Private as
the Pipe is: a worker and its job process share it, nobody else.
"""

import fcntl
import mmap
import os
from typing import Final, NamedTuple, Self

from jobrunner.dispatcher.gate import Gate

BYTES: Final = 256 << 10  #: of values, before they are sent
_HEADER_BYTES: Final = 128
_NEVER_SECONDS: Final = 9e9  # as nanoseconds, this is what the header holds
_SEAL_FUTURE_WRITE: Final = 0x10  # what Linux calls F_SEAL_FUTURE_WRITE; this Python has no name for it
_FIRST, _USED, _CURRENT, _UNTIL, _LIMIT = range(5)  # places in the header


class Seen(NamedTuple):
    """What a tail holds: `values`, separated by commas, from the item `first` on; `current` was begun last."""

    first: int
    values: bytes
    current: int


class Tail:
    """One mapping of it.  A job process calls `start`, `append`, `take` and `sent`; its worker `begin` and `see`."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _HEADER_BYTES + BYTES)
        self._view = memoryview(self._map)
        self._header = self._view[:_HEADER_BYTES].cast("q")
        self.gate: Final = Gate(self._header)  #: at places of its own
        self._values = self._view[_HEADER_BYTES:]
        self._used = 0

    @classmethod
    def create(cls) -> tuple[Self, int]:
        """Return a new one, and the descriptor by which another process maps it."""
        fd = os.memfd_create("jobrunner-tail", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, _HEADER_BYTES + BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return cls(fd), fd

    @classmethod
    def attach(cls, fd: int) -> Self:
        """Return the one behind a descriptor, which is good for nothing from then on.

        The mapping keeps a copy of it, and a task may write to all that is open, or cut it short: then to look into
        the mapping would kill the worker.
        """
        tail = cls(fd)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL)
        return tail

    # -- the job process --------------------------------------------------------------------------

    def append(self, value: bytes) -> bool:
        """Put the next item's value here, with a comma at its end; if there is no room, send what is here first."""
        end = self._used + len(value)
        if end > BYTES:
            return False
        self._values[self._used : end] = value
        self._header[_USED] = self._used = end  # written last: half a value is none
        return True

    def take(self) -> bytes:
        """Return what is here, without the last comma; it stays here until it is said to be `sent`."""
        return bytes(self._values[: max(0, self._used - 1)])

    @property
    def first(self) -> int:
        """The item whose value is the first one here."""
        return self._header[_FIRST]

    def sent(self, following: int) -> None:
        """What was here is on its way; the next value will be that of the item `following`."""
        # In this order: killed in between, it holds nothing.
        self._header[_USED] = self._used = 0
        self._header[_FIRST] = following

    def begin_until(self, moment: float) -> None:
        """No item is begun from this monotonic moment on."""
        self._header[_UNTIL] = int(min(moment, _NEVER_SECONDS) * 1e9)

    def start(self, item: int) -> bool:
        """Announce that an item is begun; return whether it may be."""
        self._header[_CURRENT] = item
        return item < self._header[_LIMIT]

    # -- the worker -------------------------------------------------------------------------------

    def begin(self, first: int, limit: int) -> None:
        """Empty it, while the job process has nothing to do, for the items from `first` to the one before `limit`."""
        self._header[_USED], self._header[_FIRST], self._header[_CURRENT] = 0, first, first - 1
        self._header[_LIMIT] = limit
        self.begin_until(_NEVER_SECONDS)

    def limit(self, item: int) -> None:
        """Let no item begin from this one on.

        It may have begun at this very moment.  What `current` says some milliseconds later is certain: by then the
        job process, which announces first and asks then, has seen the limit, or its announcement is seen here.
        """
        self._header[_LIMIT] = item

    @property
    def current(self) -> int:
        """The item that was begun last."""
        return self._header[_CURRENT]

    def is_late(self, now: float) -> bool:
        """Whether the chunk has taken its time, and some item runs on."""
        return now * 1e9 >= self._header[_UNTIL]

    def see(self) -> Seen:
        """Return what is here.  User code may have written all over it: believe nothing."""
        first, used, current = self._header[_FIRST], self._header[_USED], self._header[_CURRENT]
        values = bytes(self._values[: min(max(0, used - 1), BYTES)])
        return Seen(first, values, current) if self._header[_FIRST] == first else Seen(first, b"", current)

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._header, self._values, self._view):
            view.release()
        self._map.close()
