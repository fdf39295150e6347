"""What becomes of attempts when something under them has died."""

import json
from datetime import timedelta
from pathlib import Path

from jobrunner.dispatcher.losses import Victim, of_dead, reports
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import Ended
from jobrunner.retry import APART_SECONDS
from jobrunner.store import dispatchers, moves
from tests.dispatcher.test_loop import START, ObedientPool, Room

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
