import re
import signal

from jobrunner.doctor import dispatchers
from jobrunner.doctor.findings import Grade
from tests.dispatcher.running import World
from tests.doctor.looking import grades, look, serious, warnings
from tests.waiting import eventually


def test_a_store_where_nothing_runs_and_nothing_waits_is_right(world: World) -> None:
    situation = look(world.data)
    assert grades([*dispatchers.check(situation), *dispatchers.queue(situation)]) == [Grade.OK, Grade.OK]


def test_a_dispatcher_that_lives_is_right_and_so_are_its_jobs(world: World) -> None:
    world.start()
    situation = look(world.data)
    assert list(dispatchers.check(situation)) == [(Grade.OK, "1 dispatcher alive, with 2 workers")]
    assert grades(dispatchers.queue(situation)) == [Grade.OK]


def test_jobs_that_wait_for_no_dispatcher_are_serious(world: World) -> None:
    world.submit("nothing", times=3)
    (said,) = serious(dispatchers.queue(look(world.data)))
    assert re.fullmatch(
        r"3 jobs queued, the oldest for \d+ seconds?, and no dispatcher runs: jobrunner serve", said
    )


def test_jobs_of_a_task_that_nobody_serves_are_told_by_its_name(world: World) -> None:
    world.start()
    world.submit("forgotten", times=2)
    (said,) = warnings(dispatchers.queue(look(world.data)))
    assert said.startswith(
        "2 jobs wait for tasks that nobody serves (forgotten): add their modules to `tasks`"
    )


def test_a_queue_that_is_nearly_full_is_told(world: World) -> None:
    world.submit("nothing", times=10)
    assert warnings(dispatchers.queue(look(world.data, max_queued=12))) == []
    assert "10 of at most 11 jobs" in warnings(dispatchers.queue(look(world.data, max_queued=11)))[0]
    assert "10 of at most 10 jobs" in serious(dispatchers.queue(look(world.data, max_queued=10)))[0]


def test_a_killed_dispatcher_is_told_with_the_jobs_that_it_holds(world: World) -> None:
    daemon = world.start()
    world.submit("hold", params={"directory": str(world.data)})
    eventually((world.data / "held").exists)
    pid, number = daemon.pid, daemon.entry.id
    daemon.kill_all()
    (said,) = serious(dispatchers.check(look(world.data)))
    assert said.startswith(f"dispatcher {number} (pid {pid} on ")
    assert said.endswith("; start any dispatcher: it runs the 1 job of this one")
    (world.data / "go").touch()
    world.start()
    assert grades(dispatchers.check(look(world.data))) == [Grade.OK]


def test_a_killed_dispatcher_that_held_nothing_is_a_warning(world: World) -> None:
    world.start().kill_all()
    assert grades(dispatchers.check(look(world.data))) == [Grade.WARNING]


def test_a_dispatcher_that_stands_still_is_told_apart_from_a_dead_one(world: World) -> None:
    daemon = world.start()
    daemon.signal(signal.SIGSTOP)
    (said,) = eventually(lambda: serious(dispatchers.check(look(world.data, lease_seconds=2.0))), 20)
    assert f"it hangs, or is stopped: kill -CONT {daemon.pid}" in said
    daemon.signal(signal.SIGCONT)
    eventually(lambda: not serious(dispatchers.check(look(world.data, lease_seconds=2.0))), 20)
