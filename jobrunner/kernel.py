"""The few things that are asked of Linux directly."""

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"prctl {option}")


def die_with_parent(parent_pid: int, signum: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `signum` to this process when its parent dies.

    `parent_pid` is who the parent was when this process was started: if it died before the call,
    the signal is sent at once.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signum)


def adopt_orphans() -> None:
    """Make this process the new parent of each descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def prefer_as_oom_victim() -> None:
    """Tell the kernel's OOM killer to take this process before any other."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def flush_c_stdio() -> None:
    """Flush what C libraries of this process have printed and not yet written."""
    _libc.fflush(None)


def children(pid: int) -> list[int]:
    """Return the pids of the living and the unreaped children of `pid`, of all its threads."""
    pids: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            # A thread may end between the listing and the reading: then it has no children here.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pids += map(int, (thread / "children").read_text(encoding="ascii").split())
    return pids


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process in bytes; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:  # noqa: PTH123 - on a path taken 20 times a second
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def tree_resident_bytes(pid: int) -> int:
    """Return the resident memory of `pid` and all its descendants in bytes; what they share counts each time."""
    return resident_bytes(pid) + sum(tree_resident_bytes(child) for child in children(pid))


def tree_memory_bytes(pid: int, limit: int) -> int:
    """Return the memory of `pid` and all its descendants in bytes; exact, and dear, only above `limit`.

    What they share counts once there (the kernel's proportional set size).
    """
    resident = tree_resident_bytes(pid)
    return resident if resident <= limit else _tree_proportional_bytes(pid)


def _tree_proportional_bytes(pid: int) -> int:
    below = sum(_tree_proportional_bytes(child) for child in children(pid))
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return below
    except PermissionError:  # it runs as somebody else
        return below + resident_bytes(pid)
    kilobytes = next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))
    return below + int(kilobytes) * 1024


def place() -> str:
    """Name the scope in which a pid means something: this boot of this machine, this pid namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


def started_ticks(pid: int) -> int | None:
    """Return when `pid` was started, in clock ticks since boot; None if there is no such process.

    With the pid this names a process for good, although pids are used again.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in "ZX" else int(rest[18])
