"""The supervisor, step by step, with real processes that die; time is what the test says."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import kernel
from jobrunner.cli.supervisor import LOOK_SECONDS, REMIND_SECONDS, Part, Supervisor
from tests.waiting import eventually

SLEEPER = (sys.executable, "-c", "import signal; signal.pause()")


class World:
    """A supervisor, what it said, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.said: list[str] = []
        self.missing = ""
        self.announced = 0
        self.supervisor = self.make()

    def make(self, *commands: tuple[str, ...], stop_seconds: float = 60.0) -> Supervisor:
        self.supervisor = Supervisor(
            [Part(f"part {number}", command, dict(os.environ)) for number, command in enumerate(commands, 1)],
            missing=lambda: self.missing,
            announce=self._announce,
            say=self.said.append,
            stop_seconds=stop_seconds,
        )
        return self.supervisor

    def _announce(self) -> None:
        self.announced += 1

    def step(self, later: float = 0.0) -> float | None:
        self.now += later
        return self.supervisor.step(self.now)

    def until_said(self, words: str) -> str:
        """Step at one instant until something is said; return it."""

        def found() -> str:
            self.step()
            return next((line for line in self.said if words in line), "")

        line = eventually(found)
        self.said.remove(line)
        return line

    def stop(self) -> None:
        self.supervisor.hear({signal.SIGTERM})
        self.supervisor.hear({signal.SIGTERM})
        self.supervisor.hear({signal.SIGTERM})
        eventually(lambda: self.step() is None)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.stop()


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def test_a_part_that_dies_again_and_again_starts_again_after_growing_pauses(world: World) -> None:
    world.make(shell("exit 3"))
    pauses = []
    for _ in range(8):
        line = world.until_said("part 1 died")
        assert line.startswith("part 1 died (exit status 3): starting it again in ")
        pauses.append(float(line.split()[-2]))
        assert world.step() == pytest.approx(pauses[-1])
        world.step(later=pauses[-1] - 0.01)
        assert world.said == []
        world.step(later=0.02)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_after_a_steady_life_the_pause_is_short_again(world: World, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    world.make(shell(f"test -e {tmp_path}/calm && {living(pid_file)}; exit 3"))
    for _ in range(4):
        world.until_said("part 1 died")
        world.now += 5.0
    (tmp_path / "calm").touch()
    world.step()
    os.kill(pid_in(pid_file), signal.SIGKILL)
    assert world.until_said("part 1 died").endswith("starting it again in 1.6 s")
    pid_file.unlink()
    world.step(later=5.0)
    world.now += 10.0
    os.kill(pid_in(pid_file), signal.SIGKILL)
    assert world.until_said("part 1 died") == "part 1 died (killed by SIGKILL): starting it again in 0.1 s"


def test_the_death_of_one_part_leaves_the_others_alone(world: World, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    world.make(shell("exit 3"), shell(living(pid_file)))
    world.until_said("part 1 died")
    pid = pid_in(pid_file)
    world.step(later=1.0)
    world.until_said("part 1 died")
    assert (pid_in(pid_file), is_alive(pid)) == (pid, True)


def test_what_a_dead_part_left_in_its_group_dies_before_the_part_starts_again(
    world: World, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    world.make(shell(f"({living(pid_file)}) & while ! test -s {pid_file}; do :; done; exit 3"))
    world.until_said("part 1 died")
    eventually(lambda: not is_alive(pid_in(pid_file)))


def test_a_program_that_is_missing_for_a_while_is_started_when_it_is_back(
    world: World, tmp_path: Path
) -> None:
    program, pid_file = tmp_path / "program", tmp_path / "pid"
    program.write_text("#!/bin/sh\nexit 3\n", encoding="ascii")
    program.chmod(0o755)
    world.make((str(program),))
    world.until_said("part 1 died (exit status 3)")
    program.unlink()
    world.step(later=1.0)
    assert "No such file or directory" in world.said.pop()
    program.write_text(f"#!/bin/sh\n{living(pid_file)}\n", encoding="ascii")
    program.chmod(0o755)
    world.step(later=1.0)
    assert is_alive(pid_in(pid_file))


# -- the start -----------------------------------------------------------------------------------


def test_readiness_is_announced_once_and_as_soon_as_nothing_is_missing(world: World) -> None:
    world.make(SLEEPER)
    world.missing = "a sign of life"
    assert world.step() == LOOK_SECONDS
    assert world.announced == 0
    world.missing = ""
    world.step()
    world.step()
    assert world.announced == 1


def test_what_is_missing_for_long_is_said_now_and_then(world: World) -> None:
    world.make(SLEEPER)
    world.missing = "a sign of life"
    for _ in range(2):
        world.step()
        world.step(later=REMIND_SECONDS - 0.1)
        assert world.said == []
        world.step(later=0.2)
        assert world.said == ["not ready yet: a sign of life"]
        world.said.clear()


def test_a_part_that_dies_before_all_was_ready_ends_it_all(world: World, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    supervisor = world.make(shell(living(pid_file)), shell(f"while ! test -s {pid_file}; do :; done; exit 3"))
    world.missing = "part 2"
    assert world.until_said("part 2") == "part 2 cannot start (exit status 3): giving up"
    eventually(lambda: world.step() is None)
    assert supervisor.status == 1
    assert not is_alive(pid_in(pid_file))


def test_a_program_that_is_not_there_at_the_start_ends_it_all(world: World, tmp_path: Path) -> None:
    supervisor = world.make((str(tmp_path / "nothing"),), SLEEPER)
    world.missing = "part 1"
    eventually(lambda: world.step() is None)
    assert supervisor.status == 1
    assert "part 1 cannot start ([Errno 2] No such file or directory" in world.said[0]


def test_a_part_that_would_fail_the_same_way_again_is_not_started_again(world: World) -> None:
    supervisor = world.make(shell("exit 2"), SLEEPER)
    assert world.until_said("part 1") == "part 1 cannot start (exit status 2): giving up"
    eventually(lambda: world.step() is None)
    assert supervisor.status == 2


# -- the stop ------------------------------------------------------------------------------------


def test_a_part_that_dies_while_all_is_stopping_is_not_started_again(world: World, tmp_path: Path) -> None:
    stubborn, pid_file = shell(f"trap '' TERM; {living(pid_file := tmp_path / 'pid')}"), tmp_path / "pid"
    world.make(stubborn, SLEEPER)
    world.step()
    pid_in(pid_file)
    world.supervisor.hear({signal.SIGTERM})
    rest = world.step()
    assert world.said == ["stopping part 1 and part 2; again to wait for nothing that still runs"]
    assert rest == 60.0
    world.step(later=59.0)
    assert is_alive(pid_in(pid_file))
    world.step(later=1.0)
    eventually(lambda: world.step() is None)
    assert world.said[1:] == []
    assert world.supervisor.status == 0


def test_the_parts_stop_from_the_last_to_the_first(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    part = (sys.executable, str(Path(__file__).with_name("part.py")), str(log))
    world.make((*part, "first", "obey"), (*part, "last", "stubborn"))
    world.step()

    def logged(words: str) -> bool:
        world.step()
        return log.exists() and words in log.read_text(encoding="ascii")

    eventually(lambda: logged("first") and logged("last"))
    world.supervisor.hear({signal.SIGTERM})
    eventually(lambda: logged("last SIGTERM"))
    assert not logged("first SIGTERM")
    world.supervisor.hear({signal.SIGTERM})  # now nobody waits for the last one
    eventually(lambda: logged("first ends"))


def test_each_request_to_stop_is_passed_on_once(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    world.make((sys.executable, str(Path(__file__).with_name("part.py")), str(log), "it", "stubborn"))
    world.step()
    eventually(lambda: log.exists() and log.read_text(encoding="ascii"))

    def signals() -> int:
        world.step()
        return log.read_text(encoding="ascii").count("it SIGTERM\n")

    world.supervisor.hear({signal.SIGINT})
    eventually(lambda: signals() == 1)
    world.supervisor.hear({signal.SIGINT})
    eventually(lambda: signals() == 2)
    world.supervisor.hear({signal.SIGINT})
    eventually(lambda: world.step() is None)
    assert signals() == 2, "the third was a SIGKILL"


# -- helpers -------------------------------------------------------------------------------------


def living(pid_file: Path) -> str:
    """Return a script that lives for ever and says its pid."""
    return f"exec sh -c 'echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000'"


def pid_in(pid_file: Path) -> int:
    return int(eventually(lambda: pid_file.exists() and pid_file.read_text(encoding="ascii").strip()) or 0)


def is_alive(pid: int) -> bool:
    return kernel.started_ticks(pid) is not None
