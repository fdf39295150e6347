import json
from dataclasses import replace

import pytest

from jobrunner.errors import LeaseLostError
from jobrunner.store import dispatchers
from jobrunner.store.dispatchers import Dispatcher, Process
from tests.store.books import PROCESS, START, Books


def alive(books: Books) -> list[Dispatcher]:
    with books.read() as connection:
        return dispatchers.alive(connection)


def beat(books: Books, dispatcher_id: int) -> None:
    with books.store.write(durable=False) as connection:
        dispatchers.heartbeat(connection, dispatcher_id, slots=[{"worker": 0, "job_id": 7}], now=books.now)


def gone(
    books: Books, running: dict[int, int], place: str = PROCESS.place, host: str = PROCESS.host
) -> list[int]:
    """Whose process has ended, as seen from `place` on `host`, where these pids run: their starts by pid."""
    here = replace(PROCESS, place=place, host=host)
    with books.read() as connection:
        return dispatchers.gone(connection, here, running.get)


def test_a_dispatcher_registers_under_an_id_of_its_own(books: Books) -> None:
    other = books.register(replace(PROCESS, pid=5), workers=8)
    assert [one.id for one in alive(books)] == [books.dispatcher_id, other]
    assert alive(books)[1] == Dispatcher(
        id=other,
        host="here",
        place=PROCESS.place,
        pid=5,
        started_ticks=PROCESS.started_ticks,
        started_at=START,
        heartbeat_at=START,
        workers=8,
        slots="[]",
        module_errors="{}",
    )


def test_an_id_is_not_given_to_a_second_dispatcher(books: Books) -> None:
    ids = []
    for _ in range(3):
        ids.append(books.register())
        books.end_dispatcher(ids[-1])
    assert len(set(ids)) == 3


def test_a_heartbeat_tells_that_it_lives_and_what_its_workers_do(books: Books) -> None:
    now = books.later(5)
    beat(books, books.dispatcher_id)
    (found,) = alive(books)
    assert (found.started_at, found.heartbeat_at) == (START, now)
    assert json.loads(found.slots) == [{"worker": 0, "job_id": 7}]


def test_modules_that_cannot_be_imported_are_kept_with_the_reason(books: Books) -> None:
    with books.store.write(durable=False) as connection:
        dispatchers.set_module_errors(connection, books.dispatcher_id, {"my.tasks": "No module named 'my'"})
    assert json.loads(alive(books)[0].module_errors) == {"my.tasks": "No module named 'my'"}


def test_a_dispatcher_that_was_given_up_for_dead_learns_it_at_its_next_heartbeat(books: Books) -> None:
    books.end_dispatcher(books.dispatcher_id)
    with pytest.raises(LeaseLostError, match=f"dispatcher {books.dispatcher_id} was given up for dead"):
        beat(books, books.dispatcher_id)
    assert alive(books) == []


def test_who_never_registered_has_no_lease(books: Books) -> None:
    with pytest.raises(LeaseLostError):
        beat(books, 999)


def test_only_the_first_who_gives_a_dispatcher_up_does(books: Books) -> None:
    assert books.end_dispatcher(books.dispatcher_id)
    assert not books.end_dispatcher(books.dispatcher_id)
    assert not books.end_dispatcher(999)


# -- who is gone ---------------------------------------------------------------------------------


def test_a_dispatcher_whose_process_runs_is_not_gone(books: Books) -> None:
    assert gone(books, {PROCESS.pid: PROCESS.started_ticks}) == []


def test_a_dispatcher_whose_process_has_ended_is_gone_at_once(books: Books) -> None:
    assert gone(books, {}) == [books.dispatcher_id]


def test_a_dispatcher_whose_pid_belongs_to_another_process_now_is_gone_at_once(books: Books) -> None:
    assert gone(books, {PROCESS.pid: PROCESS.started_ticks + 1}) == [books.dispatcher_id]


def test_after_a_boot_of_its_host_a_dispatcher_is_gone_at_once(books: Books) -> None:
    later = {PROCESS.pid: PROCESS.started_ticks + 1}
    for running in ({}, later):
        assert gone(books, running, place="another-boot/1") == [books.dispatcher_id]


def test_a_process_that_runs_is_not_gone_although_a_container_shows_it_another_boot_id(books: Books) -> None:
    assert gone(books, {PROCESS.pid: PROCESS.started_ticks}, place="another-boot/1") == []


def test_of_another_host_or_another_pid_namespace_nobody_can_tell(books: Books) -> None:
    assert gone(books, {}, place="another-boot/1", host="elsewhere") == []
    boot = PROCESS.place.partition("/")[0]
    assert gone(books, {}, place=f"{boot}/another-namespace") == []


def test_who_has_ended_is_not_found_again(books: Books) -> None:
    books.end_dispatcher(books.dispatcher_id)
    assert gone(books, {}) == []


def test_all_who_are_gone_are_found_and_none_of_the_living(books: Books) -> None:
    running = Process(PROCESS.host, PROCESS.place, 7, 70)
    away = Process("away", "another-boot/1", 7, 70)
    ids = [books.register(process) for process in (running, away, replace(running, pid=8))]
    assert gone(books, {7: 70}) == [books.dispatcher_id, ids[2]]
