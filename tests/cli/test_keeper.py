"""The supervisor as a process: signals from a terminal, from a service manager, and its own violent death."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import kernel
from tests.waiting import eventually

HERE = Path(__file__).parent


class Keeper:
    """A process that supervises two parts, `first` and `second`; only `second` takes a hang-up."""

    def __init__(
        self, folder: Path, *, manner: str = "obey", stop_seconds: float = 60.0, **popen: Any
    ) -> None:
        self.log = folder / "log"
        self.output = folder / "output"
        told = {"parts": [self._part(name, manner) for name in ("first", "second")], "log": str(self.log)}
        (folder / "told").write_text(json.dumps({**told, "stop_seconds": stop_seconds}), encoding="ascii")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "keeper.py"), str(folder / "told")],
                stdout=output,
                stderr=output,
                **{"process_group": 0, **popen},
            )
        self.pids = [self.pid("first"), self.pid("second")]
        eventually(lambda: "ready" in self.said())

    def _part(self, name: str, manner: str) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "part.py"), str(self.log), name, manner]
        stops = ["SIGTERM", "SIGQUIT", "SIGKILL"]
        return {"name": name, "command": command, "stop_signals": stops, "takes_hangup": name == "second"}

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def heard(self, name: str) -> list[str]:
        """Return what a part has written."""
        lines = self.log.read_text(encoding="ascii").splitlines() if self.log.exists() else []
        return [line.split()[1] for line in lines if line.startswith(name)]

    def pid(self, name: str, *, start: int = 1) -> int:
        """Return the pid of a part's first, second, ... start, once it has come."""
        pids = eventually(lambda: [word for word in self.heard(name) if word.isdecimal()][start - 1 :])
        return int(pids[0])

    def wait_until_all_are_gone(self) -> None:
        eventually(lambda: not self.alive())

    def alive(self) -> list[int]:
        return [pid for pid in self.pids if kernel.started_ticks(pid) is not None]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Keeper]]:
    started: list[Keeper] = []

    def start_one(**told: Any) -> Keeper:
        started.append(Keeper(tmp_path, **told))
        return started[-1]

    yield start_one
    for keeper in started:
        keeper.process.kill()
        keeper.process.wait()
        for pid in keeper.alive():
            os.kill(pid, signal.SIGKILL)
        keeper.wait_until_all_are_gone()


Start = Callable[..., Keeper]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_becomes_one_sigterm_for_each_part(start: Start, signum: signal.Signals) -> None:
    keeper = start()
    keeper.process.send_signal(signum)
    assert keeper.process.wait(10) == 0
    assert keeper.heard("first")[1:] == ["SIGTERM", "ends"]
    assert keeper.heard("second")[1:] == ["SIGTERM", "ends"]
    assert "stopping first and second" in keeper.said()


def test_a_second_request_to_stop_goes_to_all_and_a_third_kills(start: Start) -> None:
    keeper = start(manner="stubborn")
    keeper.process.send_signal(signal.SIGINT)
    eventually(lambda: keeper.heard("second")[1:] == ["SIGTERM"], 30)
    assert keeper.heard("first")[1:] == [], "it waits until the second has stopped"
    keeper.process.send_signal(signal.SIGINT)
    both = ["SIGQUIT", "SIGTERM"]
    eventually(lambda: sorted(keeper.heard("first")[1:]) == sorted(keeper.heard("second")[1:]) == both, 30)
    assert keeper.process.poll() is None
    keeper.process.send_signal(signal.SIGINT)
    assert keeper.process.wait(30) == 0
    assert keeper.alive() == []


def test_parts_that_do_not_stop_are_killed_in_the_end(start: Start) -> None:
    keeper = start(manner="stubborn", stop_seconds=0.5)
    keeper.process.terminate()
    assert keeper.process.wait(30) == 0
    assert keeper.heard("second")[1:] == ["SIGTERM"]
    assert keeper.alive() == []


def test_a_hangup_reaches_only_the_part_that_takes_it(start: Start) -> None:
    keeper = start()
    keeper.process.send_signal(signal.SIGHUP)
    eventually(lambda: keeper.heard("second")[1:] == ["SIGHUP"])
    assert keeper.heard("first")[1:] == []
    assert keeper.process.poll() is None


def test_a_part_that_is_killed_starts_again_and_the_other_one_stays(start: Start) -> None:
    keeper = start()
    os.kill(keeper.pids[0], signal.SIGKILL)
    keeper.pids.append(keeper.pid("first", start=2))
    assert keeper.alive() == keeper.pids[1:]
    assert "first died (killed by SIGKILL): starting it again in 0.1 s" in keeper.said()


def test_when_the_supervisor_is_killed_its_parts_are_told_to_stop(start: Start) -> None:
    keeper = start()
    keeper.process.kill()
    keeper.wait_until_all_are_gone()
    assert keeper.heard("first")[1:] == ["SIGTERM", "ends"]


# -- terminals -----------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, Path]]:
    """Open a terminal: the end that a person holds, and the name of the other."""
    person, program = pty.openpty()
    yield person, Path(os.ttyname(program))
    os.close(program)


def _belonging_to(terminal: Path) -> dict[str, Any]:
    """Return what makes a new process one of the terminal's: the first that a session opens is its own."""
    return {"start_new_session": True, "process_group": None, "preexec_fn": lambda: terminal.open("rb+", 0)}


def test_ctrl_c_in_a_terminal_reaches_the_supervisor_alone(start: Start, terminal: tuple[int, Path]) -> None:
    person, program = terminal
    keeper = start(**_belonging_to(program))
    os.write(person, b"\x03")
    assert keeper.process.wait(10) == 0
    os.close(person)
    assert keeper.heard("first")[1:] == ["SIGTERM", "ends"]


def test_closing_its_terminal_stops_it_all(start: Start, terminal: tuple[int, Path]) -> None:
    person, program = terminal
    keeper = start(**_belonging_to(program))
    os.close(person)
    assert keeper.process.wait(10) == 0
    assert keeper.heard("second")[1:] == ["SIGTERM", "ends"]


def test_started_by_nohup_it_outlives_its_terminal(start: Start, terminal: tuple[int, Path]) -> None:
    person, program = terminal

    def under_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        program.open("rb+", 0)

    keeper = start(**_belonging_to(program) | {"preexec_fn": under_nohup})
    assert not has_no_terminal(keeper.process.pid)
    os.close(person)
    eventually(lambda: has_no_terminal(keeper.process.pid))
    os.kill(keeper.pids[0], signal.SIGKILL)
    keeper.pids.append(keeper.pid("first", start=2))
    keeper.process.send_signal(signal.SIGHUP)  # from somebody who means it
    eventually(lambda: "SIGHUP" in keeper.heard("second") + keeper.heard("first"))


def has_no_terminal(pid: int) -> bool:
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return after_name[4] == "0"
