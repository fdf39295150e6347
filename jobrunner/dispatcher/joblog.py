"""The log of one attempt: what it printed, its beginning and its end if that is too much."""

import codecs
from typing import Final

TAIL_BYTES: Final = 4096  #: of what was printed last, kept beside a log that was cut


class JobLog:
    """Takes what an attempt prints, gives out the text that is worth keeping.  Memory is bounded."""

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self._seen_bytes = 0
        self._kept_bytes = 0
        self._tail = b""
        self._pending: list[str] = []
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, data: bytes) -> None:
        """Take what was printed."""
        self._seen_bytes += len(data)
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        kept = data[: self._room - self._kept_bytes]
        if kept:
            self._kept_bytes += len(kept)
            self._pending.append(self._decode(kept))

    def take(self) -> str:
        """Return the text since the last call."""
        text = "".join(self._pending)
        self._pending.clear()
        return text.replace("\0", "\ufffd")  # a NUL is no text to a database

    def finish(self) -> str:
        """Return the rest; of a log that was cut, a note and the tail."""
        self._pending.append(self._decode(b"", final=True))
        left_out = self._seen_bytes - self._kept_bytes
        if left_out and self._room > 0:
            tail = self._tail[-left_out:]
            note = f"\n[jobrunner: max_log_bytes is {self._room}: {left_out - len(tail)} bytes left out]\n"
            self._pending += [note, tail.decode("utf-8", "replace")]
        return self.take()

    @property
    def kept_bytes(self) -> int:
        """How much was worth keeping, beside the tail of a log that was cut."""
        return self._kept_bytes

    @property
    def tail(self) -> str | None:
        """The last that was printed; None if nothing was."""
        return self._tail.decode("utf-8", "replace").replace("\0", "\ufffd") or None
