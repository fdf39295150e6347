"""Starting a process that no terminal reaches and that does not outlive its parent."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from jobrunner import kernel


def start(
    command: Sequence[str], environ: Mapping[str, str], output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own; when this process dies, it gets a SIGTERM.

    A terminal's Ctrl-C and hang-up reach the parent alone.  To be called while there is one thread.
    Standard output and error go to `output`; None means where the parent's go.
    """
    parent_pid = os.getpid()

    def before_exec() -> None:
        # Until exec the child has the parent's handlers, which would swallow the signal of a parent
        # that is gone already.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        kernel.die_with_parent(parent_pid, signal.SIGTERM)

    return subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=before_exec,  # noqa: PLW1509 - its danger is a lock that another thread holds
    )


def has_died(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the process has ended, and leave its pid, which names its group, taken."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def described(status: int) -> str:
    """Say how a process ended, from its return code as `subprocess` gives it."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal has no name
        return f"killed by signal {-status}"
