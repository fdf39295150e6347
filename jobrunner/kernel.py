"""The few things that are asked of Linux directly."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Final, NamedTuple

from jobrunner import mounts

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

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


def parent(pid: int) -> int:
    """Return the pid of the parent of `pid`.

    Raises:
        FileNotFoundError: there is no such process.
    """
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """Return the pids of all that `pid` has started and what that has started, the unreaped among them."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


class Usage(NamedTuple):
    """What some processes use.

    Attributes:
        resident_bytes: what they share counts for each of them.
        cpu_seconds: user and system time, of their children that were waited for too.
    """

    resident_bytes: int
    cpu_seconds: float


def usage(pids: Iterable[int]) -> Usage:
    """Return what the processes use, those that are gone left out; for a path taken 20 times a second."""
    pages = ticks = 0
    for pid in pids:
        with (
            contextlib.suppress(FileNotFoundError, ProcessLookupError),
            open(f"/proc/{pid}/stat", "rb") as stat,  # noqa: PTH123 - a Path costs as much as the reading
        ):
            fields = stat.read().rpartition(b")")[2].split()  # proc(5), from field 3 on
            ticks += sum(map(int, fields[11:15]))
            pages += int(fields[21])
    return Usage(pages * _PAGE_BYTES, ticks / _TICKS_PER_SECOND)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the memory of the processes; what they share counts once.  It is dear: milliseconds for a gigabyte."""
    return sum(map(_proportional_bytes, pids))


def _proportional_bytes(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:  # it runs as somebody else
        return usage([pid]).resident_bytes
    kilobytes = next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(kilobytes) * 1024


def oom_counter(proc: Path = Path("/proc/self")) -> Path | None:
    """Return the file in which the kernel counts whom its OOM killer took from this process's cgroup.

    None if there is no such file: no cgroup counts memory, or it cannot be seen from here.
    """
    text = os.fsdecode((proc / "cgroup").read_bytes())
    found = [line.split(":", 2) for line in text.splitlines()]
    groups = {name: group for _, names, group in found for name in names.split(",")}
    kind, name = ("cgroup", "memory.oom_control") if "memory" in groups else ("cgroup2", "memory.events")
    group = PurePath(groups.get("memory", groups.get("", "")))
    for mount in mounts.read(mounts.mountinfo(proc)):
        counts_memory = kind == "cgroup2" or "memory" in mount.options
        if mount.kind == kind and counts_memory and group.is_relative_to(mount.root):
            file = mount.point / group.relative_to(mount.root) / name
            return file if file.is_file() and b"oom_kill " in file.read_bytes() else None
    return None


class OomWatch:
    """Tells whether the kernel's OOM killer has struck in this process's cgroup."""

    def __init__(self, counter: Path | None) -> None:
        self._fd = None if counter is None else os.open(counter, os.O_RDONLY | os.O_CLOEXEC)
        self.begin()

    def begin(self) -> None:
        """Forget what was before."""
        self._kills = self._count()
        self._struck_at = float("-inf")

    def look(self) -> None:
        """Take note of what has happened since the last look."""
        kills = self._count()
        if kills > self._kills:
            self._kills = kills
            self._struck_at = time.monotonic()

    def struck(self, seconds: float) -> bool | None:
        """Return whether it has struck since `begin` and within the last `seconds`; None where nobody can know."""
        if self._fd is None:
            return None
        self.look()
        return time.monotonic() - self._struck_at <= seconds

    def _count(self) -> int:
        if self._fd is None:
            return 0
        words = os.pread(self._fd, 4096, 0).split()
        return int(words[words.index(b"oom_kill") + 1])


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
