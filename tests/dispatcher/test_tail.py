"""The memory in which a worker finds what a dead job process had done."""

import os
from collections.abc import Iterator

import pytest

from jobrunner.dispatcher.tail import BYTES, Seen, Tail


@pytest.fixture
def ends() -> Iterator[tuple[Tail, Tail]]:
    """The worker's end, and the job process's."""
    worker, fd = Tail.create()
    job = Tail.attach(fd)
    worker.begin(7, 1000)
    yield worker, job
    job.close()
    worker.close()


def test_the_worker_sees_what_was_put_aside(ends: tuple[Tail, Tail]) -> None:
    worker, job = ends
    assert worker.see() == Seen(7, b"", 6)
    job.start(7)
    assert job.append(b"1,")
    job.start(8)
    assert job.append(b'"two",')
    job.start(9)
    assert worker.see() == Seen(7, b'1,"two"', 9)


def test_a_task_that_writes_to_all_that_is_open_does_not_reach_it() -> None:
    worker, fd = Tail.create()
    job = Tail.attach(fd)
    for write in (lambda: os.write(fd, b"nonsense"), lambda: os.ftruncate(fd, 0), lambda: Tail(fd)):
        with pytest.raises(PermissionError):
            write()
    assert job.append(b"1,")
    assert worker.see().values == b"1"
    job.close()
    worker.close()
    os.close(fd)


def test_what_was_sent_is_not_there_any_more(ends: tuple[Tail, Tail]) -> None:
    worker, job = ends
    assert job.append(b"1,")
    assert job.take() == b"1"
    job.sent(8)
    assert (worker.see().first, worker.see().values) == (8, b"")
    assert job.append(b"2,")
    assert worker.see().values == b"2"


def test_what_has_no_room_is_refused_and_leaves_the_rest_as_it_was(ends: tuple[Tail, Tail]) -> None:
    worker, job = ends
    half = b"x" * (BYTES // 2 - 1) + b","
    assert job.append(half)
    assert not job.append(half + b"y,")
    assert worker.see().values == half[:-1]
    assert job.append(half)
    assert not job.append(b",")
    assert worker.see().values == half + half[:-1]


@pytest.mark.parametrize("used", [-1, BYTES + 1, 1 << 62, -(1 << 62)])
def test_a_header_that_user_code_has_written_over_harms_nobody(ends: tuple[Tail, Tail], used: int) -> None:
    worker, job = ends
    job._header[1] = used  # as a task may, by accident
    assert len(worker.see().values) <= BYTES
