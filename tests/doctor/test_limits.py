import math
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner.doctor import limits
from jobrunner.doctor.findings import Grade, Told
from jobrunner.doctor.limits import Allowed, allowed, control_groups, judged, least, needed, soft_limits
from jobrunner.settings import Settings
from tests.dispatcher.running import World
from tests.doctor.looking import grades, look, serious, warnings

SETTINGS = Settings(workers=4, api_workers=1, api_threads=16)
NEED = needed(SETTINGS, cores=4)
ENOUGH = Allowed(
    who="it",
    tasks={"pids.max": 4096, "kernel.pid_max": 32768},
    files=1024,
    file_bytes=math.inf,
    cpu_seconds=math.inf,
    cores=4,
    memory_bytes=8 << 30,
)


def told(**changed: Any) -> Told:
    return judged(ENOUGH._replace(**changed), NEED, SETTINGS.workers)


def test_nothing_is_said_of_what_is_enough() -> None:
    assert list(told()) == []


@pytest.mark.parametrize(
    ("changed", "grade", "what"),
    [
        ({"tasks": {"pids.max": NEED.tasks - 1}}, Grade.SERIOUS, "(pids.max), it needs"),
        ({"tasks": {"a": 9999, "b": NEED.tasks}}, Grade.WARNING, "(b), up to"),
        ({"files": 64}, Grade.SERIOUS, "may open 64 files"),
        ({"cpu_seconds": 3600.0}, Grade.SERIOUS, "killed after 3600 s of CPU"),
        ({"file_bytes": float(1 << 30)}, Grade.WARNING, "files of 1.0 GB"),
        ({"cores": 1.5}, Grade.WARNING, "1.5 cores for 4 workers"),
        ({"memory_bytes": 256 << 20}, Grade.WARNING, "256.0 MB of memory"),
    ],
)
def test_what_is_too_little_is_named(changed: dict[str, Any], grade: Grade, what: str) -> None:
    ((found, text),) = told(**changed)
    assert (found, what in text) == (grade, True), text


def test_more_workers_need_more() -> None:
    more = needed(Settings(workers=500), cores=4)
    assert all(many > few for many, few in zip(more, NEED, strict=True))
    assert grades(judged(ENOUGH._replace(cores=500, memory_bytes=1 << 40), more, 500)) == [Grade.SERIOUS]


def test_a_dispatcher_takes_no_more_than_was_reckoned(world: World) -> None:
    daemon = world.start(workers=3)
    need = needed(Settings(workers=3), cores=1)
    family = daemon.family()

    def count(what: str) -> list[int]:
        return [len(list(Path(f"/proc/{pid}/{what}").iterdir())) for pid in family]

    assert sum(count("task")) < need.tasks
    assert max(count("fd")) < need.files
    (said,) = warnings(limits.check(look(world.data, workers=len(os.sched_getaffinity(0)) + 1)))
    assert said.startswith(f"dispatcher {daemon.entry.id} may use {len(os.sched_getaffinity(0))} cores for")


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "1000"]) as started:
        yield started
        started.kill()


def test_the_limits_are_those_of_the_process_that_has_them(process: "subprocess.Popen[bytes]") -> None:
    assert serious(judged(allowed(process.pid, "it"), NEED, 1)) == []
    for kind, most in (
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CPU, 7200),
        (resource.RLIMIT_FSIZE, 1 << 20),
    ):
        resource.prlimit(process.pid, kind, (most, resource.prlimit(process.pid, kind)[1]))
    found = allowed(process.pid, "it")
    assert (found.files, found.cpu_seconds, found.file_bytes) == (32, 7200, 1 << 20)
    assert len(serious(judged(found, NEED, 1))) == 2
    assert found.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_soft_limits_are_read_as_the_kernel_writes_them() -> None:
    text = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max cpu time              unlimited            unlimited            seconds   \n"
        "Max processes             96365                unlimited            processes \n"
        "Max nice priority         0                    0                    \n"
    )
    assert soft_limits(text) == {"Max cpu time": math.inf, "Max processes": 96365, "Max nice priority": 0}


# -- control groups -------------------------------------------------------------------------------------


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The top of a hierarchy, as it would be mounted."""
    unit = tmp_path / "system.slice" / "it.service"
    unit.mkdir(parents=True)
    for place, pids, cpu in ((unit, "max", "150000 100000"), (unit.parent, "800", "max 100000")):
        (place / "pids.max").write_text(f"{pids}\n")
        (place / "cpu.max").write_text(f"{cpu}\n")
    return tmp_path


def test_the_lowest_limit_on_the_way_up_holds(top: Path) -> None:
    mountinfo = f"31 23 0:28 / {top} rw,relatime - cgroup2 cgroup2 rw"
    groups = control_groups("1:name=systemd:/x\n0::/system.slice/it.service\n", mountinfo)
    assert groups == [top / "system.slice/it.service", top / "system.slice", top]
    assert least(groups, "pids.max") == 800
    assert least(groups, "cpu.max") == 1.5
    assert least(groups, "memory.max") == math.inf


def test_in_a_container_the_part_that_is_mounted_counts(top: Path) -> None:
    mountinfo = f"31 23 0:28 /docker/abc {top} ro - cgroup2 cgroup rw"
    assert control_groups("0::/docker/abc/system.slice\n", mountinfo) == [top / "system.slice", top]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("4:memory:/a\n", "cgroup2"), ("0::/a\n", "tmpfs"), ("0::/../other\n", "cgroup2")],
)
def test_without_a_visible_group_nothing_limits(top: Path, text: str, kind: str) -> None:
    assert control_groups(text, f"31 23 0:28 / {top} rw - {kind} none rw") == []


def test_a_store_that_nobody_serves_is_judged_by_this_process(world: World) -> None:
    found = warnings(limits.check(look(world.data, workers=1000)))
    assert [text for text in found if text.startswith("this shell may use")]
