"""What the kernel allows: processes, files, cores and memory, for as many workers as are wanted.

Asked of the dispatchers that run; where none does, of this process, which stands for one started from here.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from jobrunner import mounts, sizes
from jobrunner.doctor.findings import Told, ok, serious, warning
from jobrunner.doctor.situation import Situation
from jobrunner.settings import Settings

WORKER_BYTES: Final = 128 << 20  #: for a worker, and a job process that has imported numpy
_LINE: Final = re.compile(r"^(Max [a-z ]+?) {2,}(\S+)", re.MULTILINE)
_PROC: Final = Path("/proc")


class Allowed(NamedTuple):
    """What a process and its children may use; infinite where nothing limits it.

    Attributes:
        who: whose limits they are.
        tasks: by the name of a limit, how many processes and threads it allows.
        cores: that all of them together may use.
    """

    who: str
    tasks: Mapping[str, float]
    files: float
    file_bytes: float
    cpu_seconds: float
    cores: float
    memory_bytes: float


class Need(NamedTuple):
    """What these settings take.

    Attributes:
        tasks: processes and threads, just to run.
        busy_tasks: when each job computes with a library that starts a thread per core.
        files: that one process opens: the dispatcher, or one of the API.
    """

    tasks: int
    busy_tasks: int
    files: int


def needed(settings: Settings, cores: int) -> Need:
    """Return what these settings take on a machine with so many cores."""
    # Counted in what runs: the dispatcher's 4 threads, three helpers, and 2 processes for each worker.
    tasks = 10 + 2 * settings.workers + settings.api_workers * (settings.api_threads + 3)
    dispatcher_files = 30 + 3 * settings.workers
    api_files = 30 + 4 * settings.api_threads  # a socket, and a connection to the store
    return Need(tasks, tasks + settings.workers * (cores - 1), max(dispatcher_files, api_files))


def check(situation: Situation) -> Told:
    """Whether there is enough of everything."""
    settings, cores = situation.settings, len(os.sched_getaffinity(0))
    need = needed(settings, cores)
    found = [said for one in _asked(situation) for said in judged(one, need, settings.workers)]
    enough = f"{settings.workers} workers on {cores} cores need {need.tasks} processes and threads, and may have them"
    yield from found or [ok(enough)]


def _asked(situation: Situation) -> Iterator[Allowed]:
    if not situation.here:
        yield allowed(os.getpid(), "this shell")
    for one in situation.here:
        yield allowed(one.pid, f"dispatcher {one.id}")


# -- judging ---------------------------------------------------------------------------------------


def judged(given: Allowed, need: Need, workers: int) -> Told:
    """Judge what is allowed; say nothing of what is enough."""
    yield from _tasks(given, need)
    if given.files < need.files:
        yield serious(
            f"{given.who} may open {given.files:.0f} files, {workers} workers need {need.files}: "
            f"ulimit -n {_round(need.files)}, or LimitNOFILE={_round(need.files)} in the unit"
        )
    if given.cpu_seconds < math.inf:
        yield serious(
            f"{given.who} is killed after {given.cpu_seconds:.0f} s of CPU, and each job: "
            "ulimit -t unlimited, or no LimitCPU in the unit"
        )
    if given.file_bytes < math.inf:
        yield warning(
            f"{given.who} may write files of {sizes.in_words(given.file_bytes)}, the store included: "
            "ulimit -f unlimited, or no LimitFSIZE in the unit"
        )
    if workers > given.cores:
        yield warning(
            f"{given.who} may use {given.cores:g} cores for {workers} workers, which slow each other down: "
            f"workers = {max(1, int(given.cores))}, or a larger CPUQuota"
        )
    if given.memory_bytes < workers * WORKER_BYTES:
        have = sizes.in_words(given.memory_bytes)
        yield warning(
            f"{given.who} may use {have} of memory, {workers} workers with numpy take "
            f"{sizes.in_words(workers * WORKER_BYTES)} before they compute: lower workers, or raise MemoryMax"
        )


def _tasks(given: Allowed, need: Need) -> Told:
    name, most = min(given.tasks.items(), key=lambda item: item[1])
    said = f"{given.who} may have {most:.0f} processes and threads ({name})"
    if most < need.tasks:
        yield serious(
            f"{said}, it needs {need.tasks}: raise it to {_round(need.busy_tasks)}, or lower workers"
        )
    elif most < need.busy_tasks:
        yield warning(
            f"{said}, up to {need.busy_tasks} if each job starts a thread per core: raise it, lower workers, "
            "or set OMP_NUM_THREADS=1"
        )


def _round(count: int) -> int:
    return 1 << math.ceil(math.log2(2 * count))


# -- asking ------------------------------------------------------------------------------------------


def allowed(pid: int, who: str) -> Allowed:
    """Return what this process may use."""
    soft = soft_limits((_PROC / f"{pid}/limits").read_text(encoding="ascii"))
    groups = control_groups(
        (_PROC / f"{pid}/cgroup").read_text(encoding="utf-8"),
        (_PROC / "self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"),
    )
    tasks = {
        "pids.max, TasksMax in a unit": least(groups, "pids.max"),
        "kernel.pid_max": _number(_PROC / "sys/kernel/pid_max"),
        "kernel.threads-max": _number(_PROC / "sys/kernel/threads-max"),
    }
    if (_PROC / f"{pid}").stat().st_uid != 0:  # root's are not counted
        tasks["ulimit -u, LimitNPROC in a unit"] = soft["Max processes"]
    return Allowed(
        who=who,
        tasks=tasks,
        files=soft["Max open files"],
        file_bytes=soft["Max file size"],
        cpu_seconds=soft["Max cpu time"],
        cores=min(len(os.sched_getaffinity(pid)), least(groups, "cpu.max")),
        memory_bytes=min(
            least(groups, "memory.max"), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        ),
    )


def soft_limits(text: str) -> dict[str, float]:
    """Read the soft limits of /proc/PID/limits, by their names there."""
    return {name: math.inf if value == "unlimited" else float(value) for name, value in _LINE.findall(text)}


def control_groups(text: str, mountinfo: str) -> list[Path]:
    """Return the directories of a process's control group and of those above it, as far as they can be seen.

    Of version 2 alone; without it there are none.

    Args:
        text: /proc/PID/cgroup.
        mountinfo: /proc/self/mountinfo.
    """
    places = [line.removeprefix("0::") for line in text.splitlines() if line.startswith("0::")]
    points = [one for one in mounts.read(mountinfo) if one.kind == "cgroup2"]
    if not places or not points or ".." in places[0]:  # of another control group namespace
        return []
    top, root = points[-1].point, points[-1].root
    inside = Path(places[0])
    own = top / (inside.relative_to(root) if inside.is_relative_to(root) else inside.relative_to("/"))
    return [one for one in (own, *own.parents) if one.is_relative_to(top)]


def least(groups: list[Path], name: str) -> float:
    """Return the lowest limit that these groups set; of `cpu.max` as a number of cores."""
    # A group at the top has no limits, nor has one whose controller is off.
    files = [path for path in (group / name for group in groups) if path.exists()]
    return min((_limit(path.read_text(encoding="ascii")) for path in files), default=math.inf)


def _limit(text: str) -> float:
    most, *period = text.split()
    return math.inf if most == "max" else float(most) / float(period[0] if period else 1)


def _number(path: Path) -> float:
    return float(path.read_text(encoding="ascii"))
