import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobrunner import kernel
from tests.waiting import eventually

MIB = 1 << 20
SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]  # until its stdin is closed

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that talk through pipes; each is killed, reaped and closed when the test ends."""
    started: list[subprocess.Popen[str]] = []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    def one(*command: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def python(start: Start, code: str, *arguments: object) -> "subprocess.Popen[str]":
    prelude = "import os, subprocess, sys\nfrom jobrunner import kernel\n"
    return start(sys.executable, "-c", prelude + code, *map(str, arguments))


def said(process: "subprocess.Popen[str]") -> str:
    """The next line that the process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_gone(pid: int) -> bool:
    return kernel.started_ticks(pid) is None


# -- dying with the parent, adopting orphans -------------------------------------------------


CHILD_THAT_DIES_WITH_ITS_PARENT = """
child = [
    "import os, signal, sys",
    "from jobrunner import kernel",
    "kernel.die_with_parent(int(sys.argv[1]))",
    "print(os.getpid(), flush=True)",
    "signal.alarm(60)",
    "signal.pause()",
]
subprocess.run([sys.executable, "-c", "; ".join(child), str(os.getpid())])
"""


def test_a_process_that_dies_with_its_parent_does(start: Start) -> None:
    parent = python(start, CHILD_THAT_DIES_WITH_ITS_PARENT)
    child = int(said(parent))
    assert kernel.children(parent.pid) == [child]
    assert not is_gone(child)
    parent.kill()
    eventually(lambda: is_gone(child))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_whose_parent_died_before_it_asked_gets_the_signal_at_once(
    start: Start, signum: signal.Signals
) -> None:
    code = "import signal; kernel.die_with_parent(os.getppid() + 1, signal.Signals(int(sys.argv[1])))"
    orphan = python(start, f"{code}; sys.stdin.read()", int(signum))
    assert orphan.wait(30) == -signum


def test_a_process_whose_parent_lives_goes_on(start: Start) -> None:
    child = python(start, "kernel.die_with_parent(os.getppid()); print('alive', flush=True)")
    assert said(child) == "alive"
    assert child.wait(30) == 0


GRANDCHILD = """
if sys.argv[1] == "adopting":
    kernel.adopt_orphans()
leaf = [sys.executable, "-c", "import os; os.read(0, 1)"]
between = f"import subprocess; print(subprocess.Popen({leaf}, stdout=subprocess.DEVNULL).pid, flush=True)"
subprocess.run([sys.executable, "-c", between])
sys.stdin.read()
"""


def orphaned(start: Start, how: str) -> tuple[int, int]:
    """Start a process whose child ends and leaves a grandchild; return both pids."""
    process = python(start, GRANDCHILD, how)
    return process.pid, int(said(process))


def test_a_process_that_adopts_orphans_becomes_their_parent(start: Start) -> None:
    grandparent, orphan = orphaned(start, "adopting")
    eventually(lambda: kernel.children(grandparent) == [orphan])


def test_a_process_that_does_not_adopt_orphans_does_not_get_them(start: Start) -> None:
    grandparent, orphan = orphaned(start, "not adopting")
    eventually(lambda: kernel.children(grandparent) == [])
    assert not is_gone(orphan)


def test_the_oom_killer_is_told_to_take_this_process_first(start: Start) -> None:
    code = "kernel.prefer_as_oom_victim(); print(open('/proc/self/oom_score_adj').read(), flush=True)"
    assert said(python(start, code)) == "1000"


@pytest.mark.parametrize(("flush", "seen"), [("kernel.flush_c_stdio()", "from C"), ("pass", "")])
def test_what_c_has_printed_is_lost_at_a_sudden_end_unless_it_is_flushed(
    start: Start, flush: str, seen: str
) -> None:
    code = f"import ctypes; ctypes.CDLL(None).puts(b'from C'); {flush}; os._exit(0)"
    assert said(python(start, code)) == seen


# -- children and memory ---------------------------------------------------------------------


def test_children_of_every_thread_are_found(start: Start) -> None:
    mine: list[int] = []
    ended = threading.Event()

    def start_another_and_stay() -> None:
        mine.append(start(*SLEEP).pid)
        ended.wait(30)

    first = start(*SLEEP).pid
    thread = threading.Thread(target=start_another_and_stay)
    thread.start()
    try:
        eventually(lambda: mine)
        assert {first, *mine} <= set(kernel.children(os.getpid()))
    finally:
        ended.set()
        thread.join()


def test_a_child_that_died_is_listed_until_it_is_reaped(start: Start) -> None:
    child = start("true")
    eventually(lambda: is_gone(child.pid))
    assert child.pid in kernel.children(os.getpid())
    child.wait()
    assert child.pid not in kernel.children(os.getpid())


def test_a_process_that_is_gone_has_no_children_and_no_memory(start: Start) -> None:
    child = start("true")
    child.wait()
    assert kernel.children(child.pid) == kernel.descendants(child.pid) == []
    assert kernel.usage([child.pid]) == (0, 0.0)
    assert kernel.proportional_bytes([child.pid]) == 0


RESERVED_AND_THEN_USED = """
import mmap

def wait():
    print(flush=True)
    sys.stdin.readline()

wait()
reserved = mmap.mmap(-1, 64 << 20)
wait()
reserved.write(b"x" * (64 << 20))
wait()
"""


def test_memory_is_counted_in_bytes_once_it_is_used(start: Start) -> None:
    process = python(start, RESERVED_AND_THEN_USED)
    assert process.stdin is not None
    found = []
    for _ in range(3):
        said(process)
        found.append(kernel.usage([process.pid]).resident_bytes)
        process.stdin.write("go on\n")
        process.stdin.flush()
    assert found[1] - found[0] < 8 * MIB
    assert 60 * MIB < found[2] - found[1] < 72 * MIB


def test_descendants_are_found_to_the_last_with_what_they_use(start: Start) -> None:
    child = "kept = b'x' * (48 << 20); print(flush=True); import sys; sys.stdin.read()"
    grandchild = f'import subprocess, sys; subprocess.run([sys.executable, "-c", "{child}"])'
    process = python(start, "subprocess.run([sys.executable, '-c', sys.argv[1]])", grandchild)
    said(process)
    (between,) = kernel.children(process.pid)
    (leaf,) = kernel.children(between)
    assert kernel.descendants(process.pid) == [between, leaf]
    assert kernel.parent(leaf) == between
    each = [kernel.usage([pid]).resident_bytes for pid in (between, leaf)]
    assert each[1] > 48 * MIB > each[0]
    assert kernel.usage([between, leaf]).resident_bytes == pytest.approx(sum(each), rel=0.02)


BURNS = """
import time
def burn():
    until = time.process_time() + 0.5
    while time.process_time() < until: pass
burn()
if sys.argv[1] == "with a child" and os.fork() == 0:
    burn()
    os._exit(0)
elif sys.argv[1] == "with a child":
    os.wait()
print(time.process_time(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("how", "least"), [("alone", 0.5), ("with a child", 1.0)])
def test_cpu_seconds_are_those_of_a_process_and_of_the_children_that_it_waited_for(
    start: Start, how: str, least: float
) -> None:
    process = python(start, BURNS, how)
    said(process)
    used = kernel.usage([process.pid]).cpu_seconds
    assert least - 0.1 < used < least + 1.0
    assert kernel.usage([process.pid, process.pid]).cpu_seconds == pytest.approx(2 * used, abs=0.05)


def test_the_usage_of_a_process_with_a_confusing_name_is_its_own(start: Start, tmp_path: Path) -> None:
    odd = shutil.copy(shutil.which("sleep") or "", tmp_path / ") R 1 (2 3")
    process = start(str(odd), "60")
    eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii") == ") R 1 (2 3\n")
    used = eventually(lambda: kernel.usage([process.pid]).resident_bytes)  # of its own: exec has just made it
    assert used < 64 * MIB
    assert kernel.parent(process.pid) == os.getpid()


SHARED_WITH_A_CHILD = """
kept = b"x" * (64 << 20)
child = os.fork()
if child == 0:
    os.read(0, 1)
    os._exit(0)
print(child, flush=True)
sys.stdin.read()
"""


def test_memory_that_processes_share_counts_once_where_it_matters(start: Start) -> None:
    process = python(start, SHARED_WITH_A_CHILD)
    both = [process.pid, int(said(process))]
    assert kernel.usage(both).resident_bytes > 128 * MIB
    assert 64 * MIB < kernel.proportional_bytes(both) < 90 * MIB


def test_the_memory_of_a_zombie_is_nothing(start: Start) -> None:
    child = start("true")
    eventually(lambda: is_gone(child.pid))
    assert kernel.usage([child.pid]).resident_bytes == 0
    assert kernel.proportional_bytes([child.pid]) == 0
    child.wait()


MEMORY_OF_INIT = """
assert kernel.proportional_bytes([os.getpid()]) > 0
if os.geteuid() == 0:
    os.seteuid(65534)
print(kernel.proportional_bytes([1]), flush=True)
"""


def test_the_memory_of_a_process_that_we_may_not_look_into_is_what_can_be_seen(start: Start) -> None:
    """A task may start a program that runs as somebody else."""
    assert int(said(python(start, MEMORY_OF_INIT))) > 0


# -- the OOM killer ----------------------------------------------------------------------------

V1 = ("cgroup cgroup rw,memory", "4:memory:/a/b\n1:name=systemd:/x\n0::/y\n", "memory.oom_control")
V1_WITH_OTHERS = ("cgroup cgroup rw,hugetlb,memory", "4:hugetlb,memory:/a/b\n", "memory.oom_control")
V2 = ("cgroup2 cgroup2 rw", "0::/a/b\n", "memory.events")
COUNTED = {
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
    "memory.events": "low 0\nhigh 0\nmax 5\noom 7\noom_kill {}\noom_group_kill 9\n",
}


def counting(directory: Path, layout: tuple[str, str, str], *, root: str = "/") -> Path:
    """Lay out a /proc/self and its cgroup as the kernel shows them; return where it would count."""
    system, groups, name = layout
    point = directory / "sys" / "fs"
    below = point / Path("/a/b").relative_to(root)
    below.mkdir(parents=True)
    other = "31 23 0:28 / /elsewhere rw,relatime - cgroup2 none rw" if system.startswith("cgroup ") else ""
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda rw\n35 31 0:32 {root} {point} rw,relatime shared:9 - {system}\n{other}"
    (directory / "mountinfo").write_text(mounts)
    (directory / "cgroup").write_text(groups)
    (below / name).write_text(COUNTED[name].format(3))
    return below / name


@pytest.mark.parametrize("layout", [V1, V1_WITH_OTHERS, V2])
@pytest.mark.parametrize("root", ["/", "/a", "/a/b"])
def test_the_counter_of_the_oom_killer_is_found_in_each_kind_of_cgroup(
    tmp_path: Path, layout: tuple[str, str, str], root: str
) -> None:
    made = counting(tmp_path, layout, root=root)
    assert kernel.oom_counter(tmp_path) == made


def test_odd_mounts_do_not_hide_the_counter(tmp_path: Path) -> None:
    made = counting(tmp_path / "a b\u2028c", V2)
    place = tmp_path / "a b\u2028c"
    text = os.fsencode((place / "mountinfo").read_text().replace("a b", "a\\040b"))
    odd = b"21 1 0:30 / /m\xfcller rw - tmpfs  rw\n23 1 0:31 / /\x1c rw - tmpfs none rw\n"
    (place / "mountinfo").write_bytes(odd + text)
    assert kernel.oom_counter(place) == made


def test_a_kernel_that_does_not_count_kills_has_no_counter(tmp_path: Path) -> None:
    made = counting(tmp_path, V1)
    made.write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert kernel.oom_counter(tmp_path) is None


def test_where_nobody_counts_there_is_no_counter_and_nobody_knows(tmp_path: Path) -> None:
    made = counting(tmp_path, V2)
    made.unlink()
    assert kernel.oom_counter(tmp_path) is None
    (tmp_path / "cgroup").write_text("1:name=systemd:/x\n")
    assert kernel.oom_counter(tmp_path) is None
    watch = kernel.OomWatch(None)
    watch.look()
    assert watch.struck(10.0) is None


@pytest.mark.parametrize("layout", [V1, V2])
def test_a_strike_of_the_oom_killer_is_seen_if_it_was_since_the_beginning_and_not_long_ago(
    tmp_path: Path, layout: tuple[str, str, str]
) -> None:
    counter = counting(tmp_path, layout)

    def count(kills: int) -> None:
        counter.write_text(COUNTED[counter.name].format(kills))

    watch = kernel.OomWatch(counter)
    assert watch.struck(10.0) is False
    count(4)
    watch.begin()
    assert watch.struck(10.0) is False
    count(5)
    watch.look()
    assert watch.struck(10.0) is True
    assert watch.struck(0.0) is False  # by now it is some time ago
    count(6)
    assert watch.struck(0.5) is True  # a look is taken
    eventually(lambda: watch.struck(0.1) is False)  # and what it has seen gets old


# -- telling processes apart -----------------------------------------------------------------


def test_a_process_has_a_start_that_does_not_change(start: Start) -> None:
    mine = kernel.started_ticks(os.getpid())
    assert mine is not None
    assert mine > 0
    assert kernel.started_ticks(os.getpid()) == mine
    later = kernel.started_ticks(start(*SLEEP).pid)
    assert later is not None
    assert later > mine


def test_the_start_is_what_the_kernel_says(start: Start) -> None:
    pid = start("sleep", "60").pid
    eventually(lambda: Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "sleep\n")
    starttime = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[21]  # proc(5): field 22
    assert kernel.started_ticks(pid) == int(starttime)


def test_a_zombie_counts_as_gone(start: Start) -> None:
    child = start("true")
    eventually(lambda: is_gone(child.pid))
    assert Path(f"/proc/{child.pid}/stat").exists()  # nobody has waited for it yet


def test_a_pid_that_nobody_has_is_no_process(start: Start) -> None:
    child = start("true")
    child.wait()
    assert kernel.started_ticks(child.pid) is None


def test_a_name_made_to_confuse_does_not(start: Start, tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    odd = shutil.copy(sleep, tmp_path / ") Z 1 (2 3")
    process = start(str(odd), "60")
    eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii") == ") Z 1 (2 3\n")
    mine = kernel.started_ticks(os.getpid())
    its = kernel.started_ticks(process.pid)
    assert mine is not None
    assert its is not None
    assert its > mine


def test_processes_that_see_each_other_are_in_one_place(start: Start) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert kernel.place().startswith(f"{boot_id}/")
    assert said(python(start, "print(kernel.place(), flush=True)")) == kernel.place()
