from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jobrunner.doctor import clock
from jobrunner.doctor.clock import START_UP_SECONDS, jumps
from jobrunner.doctor.findings import Grade
from jobrunner.store.dispatchers import Dispatcher
from tests.dispatcher.running import World
from tests.doctor.looking import look, warnings
from tests.store.books import START

BOOT_SECONDS = 100_000.0
TICKS = 100  # a second, on every Linux of today


def dispatcher(*, wall_seconds: float, boot_seconds: float) -> Dispatcher:
    """One that is so old by the wall clock's word, and its process by that of the clock that nobody sets."""
    return Dispatcher(
        id=7,
        host="here",
        place="a-boot/1",
        pid=4242,
        started_ticks=round((BOOT_SECONDS - boot_seconds) * TICKS),
        started_at=START - timedelta(seconds=wall_seconds),
        heartbeat_at=START,
        workers=2,
        slots="[]",
        module_errors="{}",
    )


@pytest.mark.parametrize(
    ("wall_seconds", "boot_seconds", "said"),
    [
        (3600.0, 3601.0, None),
        (3600.0, 3600.0 + START_UP_SECONDS, None),  # its modules took long to import
        (3601.5, 3600.0, None),
        (3605.0, 3600.0, "the clock has jumped 5 s ahead while dispatcher 7 ran"),
        (3600.0 + 86_400, 3600.0, "the clock has jumped 86400 s ahead while dispatcher 7 ran"),
        (-60.0, 3600.0, "the clock was set back by some 3660 s while dispatcher 7 ran"),
    ],
)
def test_a_jump_of_the_clock_is_read_off_the_age_of_a_dispatcher(
    wall_seconds: float, boot_seconds: float, said: str | None
) -> None:
    one = dispatcher(wall_seconds=wall_seconds, boot_seconds=boot_seconds)
    assert list(jumps([one], START, BOOT_SECONDS)) == ([] if said is None else [said])


def test_the_clock_of_a_dispatcher_that_has_just_started_has_not_jumped(world: World) -> None:
    world.start()
    situation = look(world.data)
    assert len(situation.here) == 1
    assert list(jumps(situation.here, situation.now, situation.boot_seconds)) == []
    assert [text for text in warnings(clock.check(situation)) if "dispatcher" in text] == []


def told(world: World, **changed: Any) -> list[str]:
    return warnings(clock.check(replace(look(world.data), **changed)))


def test_what_lies_in_the_future_tells_that_the_clock_was_set_back(world: World) -> None:
    world.submit("nothing")
    submitted = look(world.data).latest_submission
    assert submitted is not None
    assert [text for text in told(world) if "future" in text] == []
    (said,) = told(world, now=submitted - timedelta(minutes=10))
    assert said.startswith("the latest submission lies 600 s in the future: the clock was set back;")


def test_a_heartbeat_of_the_future_tells_it_too(world: World) -> None:
    one = dispatcher(wall_seconds=60, boot_seconds=60)
    (said,) = told(world, dispatchers=[one], now=START - timedelta(seconds=90))
    assert said.startswith("the heartbeat of dispatcher 7 lies 90 s in the future")


def test_a_clock_that_nobody_keeps_right_is_a_warning_at_most(world: World) -> None:
    assert {grade for grade, _ in clock.check(look(world.data))} <= {Grade.OK, Grade.WARNING}
