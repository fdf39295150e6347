"""How a job process takes signals, whatever the job before has made of them."""

import _signal  # type: ignore[import-not-found]
import signal
from types import FrameType


class Stopped(BaseException):
    """SIGTERM came: the task's `finally` blocks run, and the process ends."""


def _on_sigterm(_signum: int, _frame: FrameType | None) -> None:
    raise Stopped


def reset_signals() -> None:
    """Have SIGTERM raise `Stopped`, SIGINT a KeyboardInterrupt; no timer runs, and no signal is blocked."""
    # Past `signal`, which makes enums of what these return: that takes ten times as long, once for every job.
    _signal.signal(signal.SIGTERM, _on_sigterm)
    _signal.signal(signal.SIGINT, signal.default_int_handler)  # workers ignore it, and that is inherited
    signal.setitimer(signal.ITIMER_REAL, 0)
    _signal.pthread_sigmask(signal.SIG_SETMASK, ())  # see WorkerPool: SIGTERM came blocked
