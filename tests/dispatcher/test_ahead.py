"""Short jobs travel together, and each is stopped, charged and heard by itself all the same."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import kernel
from jobrunner.dispatcher import ahead, lines
from jobrunner.dispatcher.ahead import AheadAttempt, answer
from jobrunner.dispatcher.handle import Handle
from jobrunner.dispatcher.outbox import Outbox
from jobrunner.dispatcher.slots import Slot, Stop, request_stop
from jobrunner.dispatcher.span import span
from jobrunner.dispatcher.tickets import Code, Limits, Ticket
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import EventKind, Report
from tests.dispatcher.running import MODULES, World, told
from tests.waiting import eventually

MIB = 1 << 20
LIMITS = Limits(1.0, 10_000, 32 * MIB, MIB, MIB, MIB)


@pytest.fixture
def served(world: World) -> World:
    """One worker, which knows the task as a short one."""
    world.start(tasks="short", workers=1)
    world.all_finished(world.submit("short", times=3))
    return world


def submitted(world: World, todo: list[dict[str, Any]], **more: Any) -> list[int]:
    return world.submit_each("short", todo, **more)


def among(nothing: int, special: dict[str, Any]) -> list[dict[str, Any]]:
    """Something special among so many that do nothing."""
    return [{}] * (nothing // 2) + [special] + [{}] * (nothing - nothing // 2)


def paid(world: World, job_id: int) -> list[Ending | None]:
    """How its attempts ended, but for those that were given back: a new process takes a while to come up."""
    found = [one.outcome for one in world.attempts(job_id)]
    return [outcome for outcome in found if outcome is not Ending.RELEASED]


def charged(world: World, job_id: int) -> tuple[int, int]:
    job = world.job(job_id)
    return job.retries_used, job.crash_retries_used


def test_short_jobs_are_claimed_together_and_each_has_its_own_result(served: World) -> None:
    ids = submitted(served, [{"number": number} for number in range(200)])
    done = served.all_finished(ids)
    assert [job.result for job in done] == [str(number) for number in range(200)]
    claimed_at = {served.events(job_id, EventKind.STATE)[1].at for job_id in ids}
    assert len(claimed_at) < 100
    assert {paid(served, job_id)[0] for job_id in ids} == {Ending.SUCCEEDED}


@pytest.mark.parametrize("milliseconds", [0, 10])
def test_a_job_has_run_no_longer_than_its_own_task(served: World, milliseconds: int) -> None:
    ids = submitted(served, [{"do": "sleeps", "number": milliseconds}] * 100)
    done = served.all_finished(ids)
    spans = [(job.started_at, job.finished_at) for job in done if job.started_at and job.finished_at]
    assert len(spans) == 100
    began_at, ended_at = min(began for began, _ in spans), max(ended for _, ended in spans)
    # As many at a time as there are workers: what waits in a bundle is not counted.
    workers = served.dispatchers()[0].workers
    assert sum((ended - began for began, ended in spans), timedelta()) <= workers * (ended_at - began_at)
    assert all(ended - began >= timedelta(milliseconds=milliseconds) for began, ended in spans)
    assert {
        (one.started_at, one.finished_at) for job_id in ids for one in served.attempts(job_id)[-1:]
    } == set(spans)


def test_what_a_short_job_prints_is_its_own_log(served: World) -> None:
    todo = [{"do": "nothing" if number % 3 else "prints", "number": number} for number in range(120)]
    ids = submitted(served, todo)
    served.all_finished(ids)
    assert {served.log(job_id) for number, job_id in enumerate(ids) if number % 3} == {""}
    for number, job_id in list(enumerate(ids))[::3]:
        child = f"child {number}\n" if number % 10 == 0 else ""
        assert served.log(job_id) == f"printed {number}\nwritten {number}\n{child}"


def test_one_that_prints_more_than_a_pipe_holds_is_heard_to_the_end(served: World) -> None:
    ids = submitted(served, among(20, {"do": "prints_much"}))
    done = served.all_finished(ids)
    assert {job.state for job in done} == {State.SUCCEEDED}
    assert served.log(ids[10]) == "x" * 300_000 + "\n"
    assert "".join(served.log(job_id) for job_id in ids[:10] + ids[11:]) == ""


def test_partial_results_of_short_jobs_are_their_own(served: World) -> None:
    ids = submitted(served, [{"do": "yields", "number": number} for number in range(60)])
    served.all_finished(ids)
    assert [served.partials(job_id) for job_id in ids] == [[number, -number] for number in range(60)]


@pytest.mark.parametrize("how", ["exits", "is_killed"])
def test_only_the_short_job_that_ran_pays_for_the_death_of_its_process(served: World, how: str) -> None:
    ids = submitted(served, among(40, {"do": how}), crash_retries=1)
    done = served.all_finished(ids)
    assert paid(served, ids[20]) == [Ending.CRASHED] * 2
    assert {job.state for job in done[:20] + done[21:]} == {State.SUCCEEDED}
    assert {charged(served, job_id) for job_id in ids[:20] + ids[21:]} == {(0, 0)}
    assert {tuple(paid(served, job_id)) for job_id in ids[:20] + ids[21:]} == {(Ending.SUCCEEDED,)}


def test_each_of_many_that_kill_their_process_pays_for_one_death(served: World) -> None:
    ids = submitted(served, [{"do": "exits"}] * 8, crash_retries=1)
    served.all_finished(ids)
    assert [paid(served, job_id) for job_id in ids] == [[Ending.CRASHED] * 2] * 8


def test_one_that_takes_long_this_time_holds_up_no_other(world: World, tmp_path: Path) -> None:
    world.start(tasks="short", workers=2)
    world.all_finished(world.submit("short", times=3))
    ids = submitted(world, [{"do": "holds", "directory": str(tmp_path)}, *([{}] * 30)])
    done = world.all_finished(ids[1:])
    assert {job.state for job in done} == {State.SUCCEEDED}
    assert {charged(world, job_id) for job_id in ids} == {(0, 0)}
    assert world.job(ids[0]).state is State.RUNNING
    (tmp_path / "go").touch()
    assert world.finished(ids[0]).state is State.SUCCEEDED


def test_many_that_all_take_longer_this_time_are_given_back(served: World) -> None:
    ids = submitted(served, [{"do": "sleeps", "number": 30}] * 40)
    done = served.all_finished(ids)
    assert {job.state for job in done} == {State.SUCCEEDED}
    outcomes = [one.outcome for job_id in ids for one in served.attempts(job_id)]
    assert Ending.RELEASED in outcomes
    assert {charged(served, job_id) for job_id in ids} == {(0, 0)}


def test_a_cancel_hits_only_its_own_among_those_that_travel_together(served: World, tmp_path: Path) -> None:
    ids = submitted(served, among(20, {"do": "holds", "directory": str(tmp_path), "number": 7}))
    assert eventually(told(tmp_path, "held")) == "7"
    served.cancel(ids[10])
    done = served.all_finished(ids)
    assert done[10].state is State.CANCELLED
    assert {job.state for job in done[:10] + done[11:]} == {State.SUCCEEDED}
    assert {charged(served, job_id) for job_id in ids} == {(0, 0)}


def test_a_timeout_hits_only_its_own_among_those_that_travel_together(served: World, tmp_path: Path) -> None:
    held = {"do": "holds", "directory": str(tmp_path)}
    ids = submitted(served, among(20, held), timeout_seconds=0.4)
    done = served.all_finished(ids)
    assert paid(served, ids[10]) == [Ending.TIMEOUT]
    assert {job.state for job in done[:10] + done[11:]} == {State.SUCCEEDED}


def test_those_that_raise_fail_alone(served: World) -> None:
    todo = [{"do": "nothing" if number % 3 else "raises"} for number in range(120)]
    done = served.all_finished(submitted(served, todo))
    assert {job.state for number, job in enumerate(done) if number % 3} == {State.SUCCEEDED}
    assert {served.error(job)["type"] for job in done[::3]} == {"LookupError"}


def test_one_that_speaks_garbage_pays_for_it_alone(served: World) -> None:
    ids = submitted(served, among(20, {"do": "babbles"}), crash_retries=1)
    done = served.all_finished(ids)
    assert paid(served, ids[10]) == [Ending.CRASHED] * 2
    assert "garbage on its Pipe" in served.error(done[10])["message"]
    assert {charged(served, job_id) for job_id in ids[:10] + ids[11:]} == {(0, 0)}
    assert {job.state for job in done[:10] + done[11:]} == {State.SUCCEEDED}


# -- the job process alone ----------------------------------------------------------------------------


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    monkeypatch.setenv("PYTHONPATH", str(MODULES), prepend=":")
    made = Handle(Code(1, ("short",)), LIMITS)
    assert made.greet().hello is not None
    yield made
    made.kill()
    made.close()


def ticket(serial: int, **params: Any) -> Ticket:
    return Ticket(serial, serial, 1, "short", json.dumps(params), None, None, Code(1, ("short",)))


def heard(process: Handle, results: int) -> list[bytes]:
    """What it says up to so many results."""
    said: list[bytes] = []
    while sum(line[:1] == b"r" for line in said) < results:
        assert process.selector.select(30)
        said += process.reader.read()
    return said


def used(process: Handle, *todo: dict[str, Any]) -> list[lines.Used]:
    """What each of some jobs that travel together used."""
    process.send_ahead(
        [ticket(serial, **params) for serial, params in enumerate(todo, 1)], hears_output=False
    )
    return [lines.meaning(line) for line in heard(process, len(todo)) if line[:1] == b"u"]


def sent_ahead(
    process: Handle, monkeypatch: pytest.MonkeyPatch, first: Ticket, outbox: Outbox
) -> AheadAttempt:
    """An attempt of which the first look around is far away, with another ticket behind it."""
    monkeypatch.setattr(ahead, "PATIENCE_SECONDS", 1e6)
    process.send_ahead([first, ticket(first.serial + 1)], hears_output=True)
    around: dict[str, Any] = {"limits": LIMITS, "oom": kernel.OomWatch(None), "on_tick": lambda: None}
    slot = Slot(serial=first.serial)
    return AheadAttempt(first, process, is_brief=False, worker=0, slot=slot, outbox=outbox, **around)


def test_the_first_look_at_one_that_travels_with_others_is_in_time_for_its_timeout(
    process: Handle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = ticket(1, do="holds", directory=str(tmp_path))._replace(timeout_seconds=0.3)
    ended = sent_ahead(process, monkeypatch, one, Outbox(lambda _: None, lambda: 0)).run()
    assert ended is not None
    assert ended.ending is Ending.TIMEOUT


def test_a_stop_does_not_wait_for_the_first_look(
    process: Handle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = ticket(1, do="holds", directory=str(tmp_path))
    attempt = sent_ahead(process, monkeypatch, one, Outbox(lambda _: None, lambda: 0))
    request_stop(attempt._slot, one.serial, Stop(Ending.CANCELLED, 0.0))
    ended = attempt.run()
    assert ended is not None
    assert ended.ending is Ending.CANCELLED


def test_what_is_printed_is_read_before_the_first_look_and_is_the_log_of_that_job(
    process: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds a fifth of it: the job would wait for ever."""
    reports: list[Report] = []
    outbox = Outbox(reports.extend, lambda: 0)
    attempt = sent_ahead(process, monkeypatch, ticket(1, do="prints_much"), outbox)
    ended = attempt.run()
    outbox.flush()
    assert ended is not None
    assert ended.ending is Ending.SUCCEEDED
    assert "".join(text for one in reports for _, text in one.said) == "x" * 300_000 + "\n"
    assert process.withdraw() == 1  # who comes after it has not begun


def test_a_job_has_begun_before_it_says_anything_and_ended_after_that(served: World) -> None:
    ids = submitted(served, [{"do": "yields", "number": number} for number in range(100)])
    for job in served.all_finished(ids):
        said_at = [one.at for one in served.events(job.id, EventKind.PARTIAL)]
        moments = [job.started_at, *said_at, job.finished_at]
        assert moments == sorted(moments, key=str)
        assert len(moments) == 4


def test_jobs_that_are_heard_together_have_each_run_when_they_ran(process: Handle) -> None:
    tickets = [ticket(serial, do="sleeps", number=20) for serial in (1, 2, 3)]
    process.send_ahead(tickets, hears_output=False)
    process.pending.extend(heard(process, 3))
    for one in tickets:
        found = answer(one, process, worker=0)
        assert found is not None
        report, ran = found
        assert report.ended is not None
        assert report.ended.began_at is not None
        assert report.at - report.ended.began_at >= timedelta(milliseconds=20)
        assert ran.seconds >= 0.02


@given(told=st.floats(allow_nan=False), took=st.floats(allow_nan=False), before=st.floats(0, 1e3))
def test_when_a_job_ran_lies_between_its_ticket_and_now_whatever_its_process_says(
    told: float, took: float, before: float
) -> None:
    since = time.monotonic() - before
    found = span(lines.Used(0.0, 0.0, 0, told, took), not_before=since, started=since)
    assert since <= found.began <= found.ended <= time.monotonic()
    began_at, ended_at = found.by_wall_clock()
    assert ended_at - began_at <= timedelta(seconds=found.seconds + 1e-5)


def test_what_was_taken_back_does_not_begin(process: Handle, tmp_path: Path) -> None:
    held, other = (tmp_path / name for name in ("first", "second"))
    held.mkdir()
    other.mkdir()
    first = ticket(5, do="holds", directory=str(held))
    process.send_ahead([first, ticket(6, do="holds", directory=str(other))], hears_output=False)
    eventually(told(held, "held"))
    assert process.withdraw() == 5
    assert process.has_ahead(first)
    assert not process.has_ahead(ticket(6))
    process.send(memoryview(ticket(7, do="yields", number=1).line))
    (held / "go").touch()
    assert [line for line in heard(process, 2) if line[:1] in b"rp"] == [b"r0", b"p1", b"p-1", b"r1"]
    assert not (other / "held").exists()


def test_what_was_taken_back_does_not_begin_with_those_that_are_sent_after_it(
    process: Handle, tmp_path: Path
) -> None:
    process.send_ahead(
        [ticket(5, do="holds", directory=str(tmp_path)), *map(ticket, range(6, 100))], hears_output=False
    )
    eventually(told(tmp_path, "held"))
    process.withdraw()
    process.send_ahead([ticket(100, number=1), ticket(101, number=2)], hears_output=False)
    (tmp_path / "go").touch()
    assert [line for line in heard(process, 3) if line[:1] != b"u"] == [b"r0", b"r1", b"r2"]


def test_what_a_job_leaves_in_memory_is_seen_in_those_after_it(process: Handle) -> None:
    jobs_used = used(process, {}, {"do": "keeps", "number": 64 * MIB}, {}, {})
    before, _, after, last = [one.peak_memory_bytes for one in jobs_used]
    assert min(after, last) > before + 60 * MIB


def test_what_a_thread_does_after_its_job_is_no_jobs(process: Handle, tmp_path: Path) -> None:
    used(process, {"do": "burns_on", "directory": str(tmp_path)})
    assert eventually(told(tmp_path, "burnt")) == "None"
    (after,) = used(process, {})
    assert after.cpu_seconds < 0.25


def test_what_it_takes_to_send_a_large_result_is_not_the_next_jobs(process: Handle) -> None:
    large, after = used(process, {"do": "returns_much", "number": 31 * MIB}, {})
    assert after.cpu_seconds < large.cpu_seconds / 10
