"""The processes of a selftest: all that carry its mark, and nobody else can be hit."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from jobrunner import kernel
from jobrunner.selftest import members
from jobrunner.selftest.members import Member
from tests.waiting import eventually

MARK = secrets.token_hex(8)
WAITS = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
STARTS_ANOTHER_AND_ENDS = """
import subprocess
null = subprocess.DEVNULL
print(subprocess.Popen(["sleep", "60"], stdout=null, start_new_session=True).pid, flush=True)
"""


@contextmanager
def process(mark: str | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that waits, with the mark."""
    marked = {} if mark is None else members.environ(mark)
    running = subprocess.Popen(
        WAITS, env={**os.environ, **marked}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert running.stdout is not None
        running.stdout.readline()
        yield running
    finally:
        running.kill()
        running.communicate()


def as_it_is(pid: int) -> Member:
    """Return what somebody would take for a member who does not look for the mark."""
    started = kernel.started_ticks(pid)
    assert started is not None
    return Member(pid, started, os.getpid(), ())


def test_those_that_carry_the_mark_are_found_the_oldest_first() -> None:
    with process(MARK) as first, process("b-mark"), process(None), process(MARK) as second:
        found = members.find(MARK)
        assert [member.pid for member in found] == [first.pid, second.pid]
        assert {member.parent for member in found} == {os.getpid()}
        assert found[0].command == tuple(WAITS)
        assert found[0].started_ticks == kernel.started_ticks(first.pid)


def test_a_process_keeps_the_mark_when_its_parent_is_gone() -> None:
    env = {**os.environ, **members.environ(MARK)}
    command = [sys.executable, "-c", STARTS_ANOTHER_AND_ENDS]
    left = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout
    (found,) = members.find(MARK)
    assert found.pid == int(left)
    assert members.send(found, signal.SIGKILL, MARK)
    eventually(lambda: members.find(MARK) == [])


def test_a_signal_reaches_a_member() -> None:
    with process(MARK) as victim:
        (found,) = members.find(MARK)
        assert members.send(found, signal.SIGKILL, MARK)
        assert victim.wait(10) == -signal.SIGKILL


def test_a_process_without_the_mark_is_never_hit() -> None:
    with process(None) as bystander, process("b-mark") as of_another_selftest:
        for one in (bystander, of_another_selftest):
            assert not members.send(as_it_is(one.pid), signal.SIGKILL, MARK)
            assert one.poll() is None
        assert not members.send(as_it_is(os.getpid()), signal.SIGKILL, MARK)


def test_a_process_that_has_got_the_pid_of_a_member_is_never_hit() -> None:
    with process(MARK) as heir:
        (found,) = members.find(MARK)
        before = replace(found, started_ticks=found.started_ticks - 1)
        assert not members.send(before, signal.SIGKILL, MARK)
        assert heir.poll() is None


def test_a_member_that_has_ended_is_neither_found_nor_hit() -> None:
    with process(MARK) as gone:
        (found,) = members.find(MARK)
        gone.kill()
        eventually(lambda: members.find(MARK) == [])  # it is a zombie, until somebody waits for it
        assert not members.send(found, signal.SIGTERM, MARK)
        gone.wait()
        assert not members.send(found, signal.SIGTERM, MARK)


def test_descendants_are_those_below_wherever_they_stand() -> None:
    family = [Member(pid, 0, parent, ()) for pid, parent in ((3, 2), (2, 1), (5, 9), (4, 2), (1, 0))]
    assert {member.pid for member in members.descendants(family[1], family)} == {3, 4}
    assert [member.pid for member in members.descendants(family[-1], family)] == [2, 3, 4]
