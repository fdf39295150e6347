"""A job that is being removed, as HTTP sees it."""

from datetime import timedelta

import pytest

from jobrunner.clock import utc_now
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import EventKind
from jobrunner.store import events, retention
from tests.api.world import World, problem

EVENTS = 3 * retention.ROWS


@pytest.fixture
def talkative(world: World) -> int:
    """A failed job with more events than are deleted in one transaction."""
    job_id = world.running(labels={"who": "me"})
    world.say(job_id, *[(EventKind.PARTIAL, "1")] * EVENTS)
    world.end(job_id, Ending.EXCEPTION)
    return job_id


def first_events(world: World, job_id: int) -> list[int]:
    with world.store.read() as connection:
        return [one.seq for one in events.after(connection, job_id, limit=1)]


def test_a_job_with_a_long_history_is_deleted_to_the_end(world: World, talkative: int) -> None:
    answer = world.client.delete(f"/jobs/{talkative}")
    assert (answer.status_code, answer.data) == (204, b"")
    assert first_events(world, talkative) == []
    assert world.count() == 0


def test_a_job_that_is_being_removed_is_not_there_any_more(world: World, talkative: int) -> None:
    assert retention.remove_some(world.store, {State.FAILED: utc_now() + timedelta(1)})
    assert first_events(world, talkative) > [1]
    for path in ("", "/result", "/partials", "/log", "/attempts"):
        problem(world.client.get(f"/jobs/{talkative}{path}"), 404, "job-not-found")
    for path in ("/retry", "/cancel"):
        problem(world.client.post(f"/jobs/{talkative}{path}"), 404, "job-not-found")
    problem(world.client.delete(f"/jobs/{talkative}"), 404, "job-not-found")
    for query in ("", "?state=failed", "?label=who:me"):
        assert world.client.get(f"/jobs{query}").get_json()["items"] == []
    assert first_events(world, talkative) > [1]
