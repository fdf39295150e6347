"""Hearing signals in a loop: a handler does no more than wake it."""

import os
import select
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

Listen = Callable[[float], set[int]]


@contextmanager
def listening(signums: Collection[signal.Signals]) -> Iterator[Listen]:
    """Hand out a function that rests for so many seconds or until a signal comes, and returns which came.

    A signal that this process was started to ignore stays ignored; but SIGCHLD, for the kernel keeps no child to wait
    for where that is ignored, and SIGHUP, which may also come from somebody who means it (see `Terminal`).
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # as set_wakeup_fd demands; a full buffer wakes as well
    ignored = {signum for signum in signums if signal.getsignal(signum) is signal.SIG_IGN}
    ignored -= {signal.SIGCHLD, signal.SIGHUP}
    heard = set(signums) - ignored

    def listen(seconds: float) -> set[int]:
        readable, _, _ = select.select([reader], [], [], seconds)
        return set(reader.recv(4096)) if readable else set()

    with reader, writer:
        wakes_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        handlers_before = {signum: signal.signal(signum, _do_nothing) for signum in heard}
        try:
            yield listen
        finally:
            for signum, handler in handlers_before.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(wakes_before)


def _do_nothing(*_: object) -> None:
    """Python has written the signal's number to the socket before it calls this."""


class Terminal:
    """The terminal that this process belongs to, if it belongs to one, and was not told to outlive it by `nohup`."""

    def __init__(self) -> None:
        self._was_there = _is_there() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def is_gone(self) -> bool:
        """Return whether there was one, and it has been closed."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
