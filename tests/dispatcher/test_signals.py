"""Starting, draining, reloading: what a service manager sees."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.lifecycle import Ending, State
from tests.dispatcher.running import World, is_gone, told
from tests.waiting import eventually


def _hold(world: World, directory: Path, name: str = "held", **more: int) -> tuple[int, int]:
    (job_id,) = world.submit("hold", params={"directory": str(directory), "name": name}, **more)
    return job_id, json.loads(eventually(told(directory, name)))["pid"]


# -- draining ------------------------------------------------------------------------------------


def test_sigterm_finishes_what_runs_and_starts_nothing_more(world: World, tmp_path: Path) -> None:
    daemon = world.start(workers=1)
    running, _ = _hold(world, tmp_path)
    (waiting,) = world.submit("nothing")
    daemon.signal(signal.SIGTERM)
    eventually(lambda: "draining" in daemon.said)
    assert world.job(running).state is State.RUNNING
    (tmp_path / "go").touch()
    assert daemon.wait() == 0
    assert (world.job(running).state, world.job(running).result) == (State.SUCCEEDED, '"held"')
    assert world.job(waiting).state is State.QUEUED
    assert world.dispatchers() == []


def test_what_does_not_finish_in_time_goes_back_uncharged(world: World, tmp_path: Path) -> None:
    daemon = world.start(drain_seconds=0.1, grace_seconds=0.2)
    job_id, pid = _hold(world, tmp_path)
    once, _ = _hold(world, tmp_path, "once", crash_retries=0)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert is_gone(pid)
    job = world.job(job_id)
    assert (job.state, job.attempt, job.retries_used, job.crash_retries_used) == (State.QUEUED, 1, 0, 0)
    assert world.attempts(job_id)[0].outcome is Ending.RELEASED
    at_most_once = world.job(once)
    assert (at_most_once.state, world.error(at_most_once)["kind"]) == (State.FAILED, "lost")


def test_an_answer_that_comes_when_the_drain_is_over_counts(world: World, tmp_path: Path) -> None:
    daemon = world.start(drain_seconds=0, grace_seconds=30)
    (job_id,) = world.submit("answers_on_sigterm", params={"directory": str(tmp_path)}, crash_retries=0)
    eventually(told(tmp_path, "stuck"))
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert (world.job(job_id).state, world.job(job_id).result) == (State.SUCCEEDED, '"just in time"')


def test_a_reload_while_the_store_is_locked_waits_for_it(world: World) -> None:
    _write(world, "changing", 1)
    daemon = world.start(tasks="faults,changing", workers=1)
    with world.store.write(durable=False):
        _write(world, "changing", 22)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "cannot be used" in daemon.said, 30)
    eventually(lambda: "reloaded" in daemon.said, 30)
    assert world.run("changing").result == "22"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain_at_once(world: World, tmp_path: Path, signum: signal.Signals) -> None:
    daemon = world.start(drain_seconds=3600, grace_seconds=0.2)
    job_id, pid = _hold(world, tmp_path)
    daemon.signal(signum)
    eventually(lambda: "draining" in daemon.said)
    daemon.signal(signum)
    assert daemon.wait() == 0
    assert is_gone(pid)
    assert world.job(job_id).state is State.QUEUED


def test_a_sigterm_while_it_starts_is_not_lost(world: World) -> None:
    daemon = world.start(ready=False)
    eventually(lambda: len(daemon.family()) > 3)  # the Pool is on its way up
    family = daemon.family()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() in (0, -signal.SIGTERM)
    eventually(lambda: all(map(is_gone, family)))


def test_nothing_of_it_is_left_after_a_stop(world: World) -> None:
    daemon = world.start()
    assert world.run("add", params={"a": 1, "b": 1}).result == "2"
    family = daemon.family()
    assert len(family) >= 7  # itself, forkserver, resource tracker, writer, two workers, two job processes
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    eventually(lambda: all(map(is_gone, family)))
    assert list((world.data / "dispatchers").iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_drains_all_the_same(
    world: World, tmp_path: Path, signum: signal.Signals
) -> None:
    daemon = world.start()
    job_id, _ = _hold(world, tmp_path)
    os.killpg(daemon.pid, signum)  # Ctrl-C in a terminal, or a service manager that does not know better
    eventually(lambda: "draining" in daemon.said)
    (tmp_path / "go").touch()
    assert daemon.wait() == 0
    assert world.job(job_id).state is State.SUCCEEDED


# -- task modules ----------------------------------------------------------------------------------


def _write(world: World, name: str, answer: int) -> None:
    path = world.data / f"{name}.py"
    path.write_text(
        f"from jobrunner import task\n@task(name='{name}')\ndef {name}() -> int:\n    return {answer}\n"
    )


def test_sighup_brings_new_code_and_loses_no_job(world: World, tmp_path: Path) -> None:
    _write(world, "changing", 1)
    daemon = world.start(tasks="faults,changing", workers=1)
    assert world.run("changing").result == "1"
    running, _ = _hold(world, tmp_path)
    (waiting,) = world.submit("changing")
    _write(world, "changing", 22)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "reloaded" in daemon.said, 30)
    assert world.job(running).state is State.RUNNING
    (tmp_path / "go").touch()
    assert (world.finished(running).attempt, world.finished(running).state) == (1, State.SUCCEEDED)
    assert world.finished(waiting).result == "22"


def test_code_that_cannot_be_served_leaves_the_old_in_service(world: World) -> None:
    _write(world, "changing", 1)
    daemon = world.start(tasks="faults,changing")
    (world.data / "changing.py").write_text("from jobrunner import task\n@task(name='add')\ndef f(): ...\n")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "not reloaded" in daemon.said, 30)
    assert "two tasks are named 'add'" in daemon.said
    assert world.run("changing").result == "1"


def test_two_tasks_of_one_name_are_an_error_at_start(world: World) -> None:
    (world.data / "twice.py").write_text("from jobrunner import task\n@task(name='add')\ndef f(): ...\n")
    daemon = world.start(tasks="faults,twice", ready=False)
    assert daemon.wait() == 1
    assert "two tasks are named 'add'" in daemon.said
    assert "faults.py" in daemon.said
    assert "twice.py" in daemon.said
    assert "Traceback" not in daemon.said


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import not_there_at_all\n", "No module named 'not_there_at_all'"),
        ("import os\nos._exit(9)\n", "exit code 9"),
        ("import ctypes\nctypes.string_at(0)\n", "SIGSEGV"),
        ("raise SystemExit('no')\n", "SystemExit"),
    ],
)
def test_a_module_that_cannot_be_imported_does_not_keep_the_others_from_running(
    world: World, code: str, why: str
) -> None:
    (world.data / "broken.py").write_text(code)
    daemon = world.start(tasks="broken,faults")
    assert why in daemon.entry.module_errors
    assert "broken" in json.loads(daemon.entry.module_errors)
    assert why in daemon.said
    assert world.run("add", params={"a": 1, "b": 1}).result == "2"


# -- the service manager ---------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_it_tells_the_service_manager_how_it_is(world: World, manager: socket.socket) -> None:
    def hear(wanted: str) -> str:
        while wanted not in (said := manager.recv(4096).decode()):
            pass
        return said

    daemon = world.start(ready=False)
    assert hear("READY=1") == "READY=1"
    assert all(slot["pid"] for slot in daemon.slots())  # the Pool was up before
    assert "STATUS=0 running, 0 queued, 0 jobs/s" in hear("WATCHDOG=1")
    daemon.signal(signal.SIGHUP)
    hear("RELOADING=1")
    hear("READY=1")
    daemon.signal(signal.SIGTERM)
    hear("STOPPING=1")
    assert daemon.wait() == 0


def test_nothing_is_left_in_shared_memory_however_it_ends(world: World) -> None:
    daemon = world.start()
    maps = Path(f"/proc/{daemon.pid}/maps").read_text(encoding="utf-8")
    semaphores = [line for line in maps.splitlines() if "/sem." in line]
    assert semaphores
    assert all(line.endswith(" (deleted)") for line in semaphores)
    assert world.run("add", params={"a": 1, "b": 2}).result == "3"
