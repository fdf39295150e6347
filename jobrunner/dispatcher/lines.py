"""Messages between a worker and its job process: one line each, a letter and then JSON.

The Pipe's file descriptor is read in bulk and split, so a task that yields 20,000 values a second costs its
worker a few reads, not 20,000.  JSON never holds a raw line feed.

What a worker reads is not believed: the descriptor is open in a process that runs user code, and a library that
writes where it should not is enough to make a job's result no JSON.
"""

import os
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Literal

import msgspec

READ_BYTES: Final = 1 << 18


class Kind(bytes, Enum):
    """The letter that a line from a job process starts with."""

    IMPORTING = b"m"  #: a module's name: if this is the last word, that module killed the process
    HELLO = b"h"  #: ready; {"tasks", "errors" by module, "refused", "cpu_seconds" so far}
    PARTIAL = b"p"  #: a value that the task yielded
    PROGRESS = b"g"  #: {"done", "total", "message"}
    WITHDRAWN = b"w"  #: the serial of a ticket that was announced, and then not begun; see `gate`
    USAGE = b"u"  #: what the attempt used, see `Used`; before its last line
    RESULT = b"r"  #: what the task returned: the attempt's last line
    ERROR = b"x"  #: what went wrong, see `Failed`: the attempt's last line
    VALUES = b"v"  #: of items that follow each other: [index of the first, how many, [value, ...]]
    ITEM_FAILED = b"i"  #: what went wrong with one item, see `ItemFailed`
    CHUNK_END = b"c"  #: see `ChunkEnd`: a chunk's last line


class GarbageError(Exception):
    """What came through the Pipe is nothing that a job process says."""


class Used(msgspec.Struct):
    """What an attempt used; `process_cpu_seconds` is the whole process's since it started.

    The task `began`, by `time.monotonic`, and took `seconds`; 0: not known.
    """

    cpu_seconds: float
    process_cpu_seconds: float
    peak_memory_bytes: int
    began: float = 0.0
    seconds: float = 0.0
    printed: bool = False  #: whether the process waits until what was printed is read


class Failed(msgspec.Struct):
    """Why an attempt failed, in its own words; `kind` is an Ending."""

    kind: Literal["exception", "unserializable"]
    type: str
    message: str
    traceback: str | None


class ItemFailed(Failed):
    """Why an item failed; `item` is its index."""

    item: int


class ChunkEnd(msgspec.Struct):
    """The index after the last item that was run, and how long all of them took."""

    following: int
    seconds: float


class Hello(msgspec.Struct):
    """What a job process says of itself; `refused` says why it cannot serve at all."""

    tasks: list[dict[str, Any]]
    errors: dict[str, str]
    refused: str | None
    cpu_seconds: float


class _Progress(msgspec.Struct):
    done: msgspec.Raw
    total: msgspec.Raw
    message: msgspec.Raw


_ANYTHING: Final = msgspec.json.Decoder(msgspec.Raw)
_MEANINGS: Final[dict[bytes, Callable[[memoryview], Any]]] = {
    Kind.IMPORTING.value: msgspec.json.Decoder(str).decode,
    Kind.HELLO.value: msgspec.json.Decoder(Hello).decode,
    Kind.PARTIAL.value: _ANYTHING.decode,
    Kind.PROGRESS.value: msgspec.json.Decoder(_Progress).decode,
    Kind.WITHDRAWN.value: msgspec.json.Decoder(int).decode,
    Kind.USAGE.value: msgspec.json.Decoder(Used).decode,
    Kind.RESULT.value: _ANYTHING.decode,
    Kind.ERROR.value: msgspec.json.Decoder(Failed).decode,
    Kind.VALUES.value: msgspec.json.Decoder(tuple[int, int, list[msgspec.Raw]]).decode,
    Kind.ITEM_FAILED.value: msgspec.json.Decoder(ItemFailed).decode,
    Kind.CHUNK_END.value: msgspec.json.Decoder(ChunkEnd).decode,
}


def meaning(line: bytes) -> Any:
    """Return what a line says: `Hello`, `Used`, `Failed`, a module's name; of the others only that they are JSON.

    Raises:
        GarbageError: it is no line of ours.
    """
    decode = _MEANINGS.get(line[:1])
    if decode is None or not line.isascii():
        raise GarbageError
    try:
        return decode(memoryview(line)[1:])
    except (msgspec.DecodeError, RecursionError):  # the decoder reads deeper than a job process writes
        raise GarbageError from None


class LineReader:
    """Reads whole lines from a file descriptor that may or may not block; none is much longer than `most_bytes`."""

    def __init__(self, fd: int, most_bytes: float = float("inf")) -> None:
        self._fd = fd
        self._most_bytes = most_bytes
        self._rest: list[bytes] = []  # the beginning of a line whose end has not come yet
        self._rest_bytes = 0

    @property
    def is_amid_a_line(self) -> bool:
        """Whether the beginning of a line has come, and not its end."""
        return bool(self._rest)

    def read(self) -> list[bytes]:
        """Return the lines that one read completes, perhaps none, without their line feeds.

        Raises:
            EOFError: the other end is closed.
            BlockingIOError: nothing is there, and the descriptor does not block.
            GarbageError: a line does not end.
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
            self._rest_bytes += len(first)
            if self._rest_bytes > self._most_bytes:
                raise GarbageError
            return []
        *whole, rest = (b"".join(self._rest), *others)
        self._rest = [rest] if rest else []
        self._rest_bytes = len(rest)
        return whole


def write(fd: int, data: bytes) -> None:
    """Write all of `data` to a blocking descriptor."""
    view = memoryview(data)
    while view:  # a signal may cut a write short
        view = view[os.write(fd, view) :]
