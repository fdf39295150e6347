"""Which of the tickets that a job process was given ahead may still begin, and which has begun last.

Several short tickets travel together, so the job process need not wait for its worker between two of them.  The worker
may take back at any moment what has not begun.  Both sides write a word and then read the other's, with a system call
in between that gives up Python's lock, which no processor reorders: at least one of the two sees what the other did.
"""

import time
from typing import Final

_UPTO, _BEGUN, _SINCE, _FIRST = 5, 6, 7, 8  # places in the header of a tail
CLOSED: Final = 0


class Gate:
    """In the memory that a worker and its job process share; user code may write all over it."""

    def __init__(self, header: memoryview) -> None:
        self._header = header

    # -- the worker ---------------------------------------------------------------------------------

    def open(self, first: int, upto: int) -> None:
        """Let tickets begin with serials from `first` to `upto`; earlier ones, taken back, may not be read yet."""
        self._header[_BEGUN] = CLOSED
        self._header[_FIRST] = first
        self._header[_UPTO] = upto

    def close(self) -> None:
        """Let none begin any more.  Make a system call before you look at what has begun."""
        self._header[_UPTO] = CLOSED

    @property
    def begun(self) -> int:
        """The serial of the ticket that was begun last."""
        return self._header[_BEGUN]

    @property
    def since(self) -> float:
        """When it was begun, by `time.monotonic`."""
        return self._header[_SINCE] / 1e9

    # -- the job process ----------------------------------------------------------------------------

    def admits(self, serial: int) -> bool:
        """Whether the ticket may begin."""
        return serial <= self._header[_UPTO] and serial >= self._header[_FIRST]  # in this order: see `open`

    def begin(self, serial: int) -> None:
        """Announce the ticket.  Make a system call and ask again whether it may begin."""
        self._header[_SINCE] = time.monotonic_ns()
        self._header[_BEGUN] = serial
