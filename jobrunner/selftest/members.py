"""The processes of one selftest: known by a mark in their environment, and hit only while they carry it.

A process inherits the mark from its parent and keeps it whatever becomes of that one, so what is left behind is
found too.
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "SELFTEST_STAGE"


@dataclass(frozen=True)
class Member:
    """A process as it was when it was looked at; pid and start (in clock ticks since boot) name it for good."""

    pid: int
    started_ticks: int
    parent: int
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pid} ({' '.join(self.command[1:5])})"


def environ(mark: str) -> dict[str, str]:
    """Return the variables that make a process, and all that it starts, carry the mark."""
    # gunicorn names its processes where `setproctitle` is installed, which writes over the environment unless told.
    return {VARIABLE: mark, "SPT_NOENV": "1"}


def find(mark: str) -> list[Member]:
    """Return the living processes that carry the mark, the oldest first."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    found = [member for pid in pids if (member := look(pid, mark)) is not None]
    return sorted(found, key=lambda member: (member.started_ticks, member.pid))


def look(pid: int, mark: str) -> Member | None:
    """Return the process if it lives and carries the mark; a zombie has no environment any more."""
    place = Path(f"/proc/{pid}")
    try:
        if f"{VARIABLE}={mark}".encode() not in (place / "environ").read_bytes().split(b"\0"):
            return None
        command = (place / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        stat = (place / "stat").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or somebody else's
        return None
    _, parent, *rest = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return Member(pid, int(rest[17]), int(parent), tuple(command))


def send(victim: Member, signum: signal.Signals, mark: str) -> bool:
    """Send a signal to exactly this process; return whether it was there and carried the mark."""
    try:
        pidfd = os.pidfd_open(victim.pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at once more when the descriptor is open: if it is the same now, the descriptor is its own, and
        # whoever may get the pid later cannot be hit.
        now = look(victim.pid, mark)
        if now is None or now.started_ticks != victim.started_ticks:
            return False
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def descendants(of: Member, among: list[Member]) -> list[Member]:
    """Return those `among` these that this one has started, directly or not."""
    children = [member for member in among if member.parent == of.pid]
    return [member for child in children for member in (child, *descendants(child, among))]
