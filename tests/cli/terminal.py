"""A real terminal, and somebody who reads it and types."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.waiting import eventually


class Terminal:
    """A program on a terminal of its own; `shown` is all that it has written there so far."""

    def __init__(
        self, words: Sequence[str], env: dict[str, str], *, columns: int = 80, rows: int = 24
    ) -> None:
        self._person, program = pty.openpty()
        fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *words], env=env, stdin=program, stdout=program, stderr=program
        )
        os.close(program)
        self._shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self._shown += os.read(self._person, 4096)
            except OSError:  # how Linux says that nobody holds the other end any more
                return

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace")

    def enter(self, text: str) -> None:
        os.write(self._person, text.encode())

    def wait_until_it_shows(self, words: str, after: int = 0) -> int:
        """Return how much had been shown by then."""
        eventually(lambda: words in self.shown[after:], 30.0)
        return len(self.shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self._reader.join(30)
        os.close(self._person)
