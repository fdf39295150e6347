"""Waking the dispatchers: an empty datagram rings a bell, so that nobody waits for a slow poll.

A lost ring costs a moment, never a job: a dispatcher also looks by itself from time to time.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SUFFIX: Final = ".sock"  #: of a bell's file name
DISPATCHERS: Final = "dispatchers"  #: in the data directory: rung when there is something to start or to stop
WATCHERS: Final = "watchers"  #: in the data directory: rung when a job has changed
_DEAD_SECONDS: Final = 60.0  # a bell that does not answer may be a moment old, and still being hung
_log = logging.getLogger(__name__)


def wake(directory: Path) -> None:
    """Ring every bell in `directory`, and never fail: what the caller has committed stays committed."""
    try:
        with _opened(directory) as folder, _datagram_socket() as sender:
            for name in _bells(folder):
                # Its owner is gone, or its buffer holds rings enough to wake it.
                with contextlib.suppress(OSError):
                    sender.sendto(b"", _address(folder, name))
    except FileNotFoundError:
        return  # no dispatcher has ever run here
    except OSError as error:
        _log.warning("no dispatcher could be woken through %s: %s", directory, error)


def is_heard(directory: Path) -> bool:
    """Whether there is any bell in `directory`; who hangs one later has seen by then what was committed before."""
    try:
        with _opened(directory) as folder:
            return bool(_bells(folder))
    except OSError:
        return False


class Bell:
    """A dispatcher's own bell: readable when somebody has rung it."""

    def __init__(self, directory: Path, name: str) -> None:
        """Hang the bell as `directory / name`, where `name` ends in `SUFFIX`, and take down dead ones."""
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / name
        self._path.unlink(missing_ok=True)
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(_datagram_socket())
            with _opened(directory) as folder:
                _remove_dead(folder, self._socket)
                self._socket.bind(_address(folder, name))
            undo.pop_all()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def clear(self) -> None:
        """Take all rings so far; the next one makes the bell readable again."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)

    def close(self) -> None:
        """Take the bell down."""
        self._path.unlink(missing_ok=True)
        self._socket.close()


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def _address(folder: int, name: str) -> str:
    # The kernel takes 107 bytes of path, and a data directory may be deeper than that.
    return f"/proc/self/fd/{folder}/{name}"


def _bells(folder: int) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(SUFFIX)]


def _remove_dead(folder: int, sender: socket.socket) -> None:
    """Remove the bells of dispatchers that were killed: each would cost every submission a call."""
    for name in _bells(folder):
        try:
            if time.time() - os.stat(name, dir_fd=folder).st_mtime > _DEAD_SECONDS:
                sender.sendto(b"", _address(folder, name))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        except OSError:
            continue  # it lives, and its buffer is full; or somebody else has just removed it
