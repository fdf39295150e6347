"""What becomes of attempts when something under them has died."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from jobrunner.dispatcher.losses import Victim, apart, of_dead, reports
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import Ended
from jobrunner.retry import APART_SECONDS, CAP_SECONDS
from jobrunner.store import dispatchers, moves
from jobrunner.store.lost import Lost
from tests.dispatcher.stepping import START, ObedientPool, Room

SLOTS = json.dumps(
    [
        {"worker": 0, "job_id": 7, "attempt": 2, "peak_memory_bytes": 5 << 20, "cpu_seconds": 1.5},
        {"worker": 1, "job_id": None, "attempt": None, "peak_memory_bytes": None, "cpu_seconds": None},
    ]
)


def _ended(victims: list[Victim], workers: int = 8) -> list[Ended]:
    return [report.ended for report in reports(victims, workers, START) if report.ended is not None]


def test_what_the_last_heartbeat_said_of_an_attempt_is_kept() -> None:
    seen, unseen, later = of_dead([(7, 2), (8, 1), (7, 3)], SLOTS, "it died")
    assert seen == Victim(7, 2, "it died", 0, 5 << 20, 1.5)
    assert (unseen, later) == (Victim(8, 1, "it died"), Victim(7, 3, "it died"))
    assert of_dead([(7, 2)], "[]", "it died") == [Victim(7, 2, "it died")]


def test_those_that_are_blamed_are_lost_and_go_on_in_their_order_the_others_at_once() -> None:
    ends = _ended([Victim(1, 1, "it died"), Victim(2, 1), Victim(3, 1, "it died", 4, 9, 0.5)])
    assert [(one.ending, one.turn) for one in ends] == [
        (Ending.LOST, 0.0),
        (Ending.RELEASED, 0.0),
        (Ending.LOST, 1.0),
    ]
    assert (ends[2].worker, ends[2].peak_memory_bytes, ends[2].cpu_seconds) == (4, 9, 0.5)
    assert ends[2].error is not None
    assert (ends[2].error["message"], ends[2].error["peak_memory_bytes"]) == ("it died", 9)


def test_short_jobs_that_travelled_together_wait_no_longer_than_as_many_as_there_are_workers() -> None:
    turns = [one.turn for one in _ended([Victim(number, 1, "it died") for number in range(128)], workers=2)]
    assert turns == [number / 64 for number in range(128)]


def test_what_a_dead_dispatcher_held_goes_on_one_after_another_the_youngest_first(tmp_path: Path) -> None:
    room = Room(tmp_path)
    elsewhere = dispatchers.Process(host="other", place="another boot", pid=1, started_ticks=1)
    with room.store.write(durable=False) as connection:
        dead = dispatchers.register(connection, elsewhere, workers=3, now=room.now)
    ids = room.submit(3)
    for _ in ids:
        with room.store.write(durable=False) as connection:
            moves.claim(connection, dead, tasks=["t"], limit=1, now=room.now)
        room.now += timedelta(seconds=1)
    pool = ObedientPool(size=3)
    dispatcher = room.dispatcher(pool)
    dispatcher._give_back(dead, room.now)
    started: list[list[int]] = []
    for _ in ids:
        dispatcher.step(room.now)
        started.append([ticket.job_id for ticket in pool.in_hand])
        room.now += timedelta(seconds=APART_SECONDS)
    assert started == [ids[:1:-1], ids[:0:-1], ids[::-1]]
    assert {room.state(job_id) for job_id in ids} == {State.RUNNING}
    room.store.close()


# -- after a restart -----------------------------------------------------------------------------------


def _after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _lost(*due_at: datetime | None, by: int = 1, workers: int = 8) -> list[Lost]:
    """Jobs 0, 1, ... that one dispatcher lost, the youngest first."""
    return [Lost(job_id, due, by, workers) for job_id, due in enumerate(due_at)]


def test_those_whose_turn_is_past_go_on_one_after_another_from_now_on() -> None:
    assert apart(_lost(None, _after(-6), _after(-3)), START) == {1: _after(3), 2: _after(6)}
    assert apart(_lost(None), START) == apart(_lost(_after(-3)), START) == {}
    assert apart([], START) == {}


def test_those_that_wait_long_enough_stay_as_they_are_and_none_is_to_start_beside_them() -> None:
    assert apart(_lost(None, _after(3), _after(7)), START) == {}
    assert apart(_lost(None, _after(7), _after(8)), START) == {2: _after(10)}
    assert apart(_lost(None, _after(1), _after(2), _after(60)), START) == {1: _after(3), 2: _after(6)}
    assert apart(_lost(_after(2), None, _after(3)), START) == {0: _after(3), 2: _after(6)}


def test_short_jobs_that_were_lost_together_wait_no_longer_after_a_restart() -> None:
    until = apart(_lost(*[None] * 60, workers=2), START)
    assert [until[job_id] for job_id in range(1, 60)] == [_after(0.1 * job_id) for job_id in range(1, 60)]
    alone = Lost(99, None, 2, 2)  # by another dispatcher: of these each may have run
    assert apart([alone, *_lost(*[None] * 60, workers=2)], START)[0] == _after(APART_SECONDS)


def test_none_waits_longer_than_the_cap() -> None:
    until = apart(_lost(*[None] * 200, workers=200), START)
    assert max(until.values()) == _after(CAP_SECONDS)


def test_after_a_restart_that_took_longer_than_their_turns_the_lost_still_go_on_one_after_another(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path)
    pool = ObedientPool(size=4)
    dispatcher = room.dispatcher(pool)
    ids = room.submit(4)
    dispatcher.step(room.now)
    released, *lost = ids
    died = "the forkserver died while it ran"
    dispatcher.end(room.now, [Victim(job_id, 1, None if job_id == released else died) for job_id in ids])
    room.now += timedelta(minutes=1)
    pool = ObedientPool(size=4)
    dispatcher = room.dispatcher(pool)
    started: list[set[int]] = []
    for _ in lost:
        dispatcher.step(room.now)
        started.append({ticket.job_id for ticket in pool.in_hand})
        room.now += timedelta(seconds=APART_SECONDS)
    assert started == [{released, *lost[2:]}, {released, *lost[1:]}, {released, *lost}]
    room.store.close()
