"""What a stream holds in memory, and how it ends when it cannot go on."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobrunner.api.following import follow, pieces
from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from tests.api.world import World

LARGE = 300 << 10


def large(world: World, number: int) -> int:
    """Return a final job with so many large partial results."""
    job_id = world.running()
    world.say(job_id, *[(EventKind.PARTIAL, json.dumps("x" * LARGE))] * number)
    world.end(job_id, Ending.SUCCEEDED)
    return job_id


def test_no_more_is_read_at_a_time_than_a_slow_client_may_keep(world: World) -> None:
    job_id = large(world, 20)
    with world.app.test_request_context("/"):
        told = [
            (news.is_last, [one.seq for one in news.events], sum(len(one.data) for one in news.events))
            for news in follow(job_id, 0)
        ]
    assert [seq for _, seqs, _ in told for seq in seqs] == list(range(1, 24))
    assert max(size for *_, size in told) < (1 << 20) + 2 * LARGE
    assert [is_last for is_last, *_ in told] == [False] * (len(told) - 1) + [True]


@pytest.mark.parametrize(
    ("path", "accept"),
    [("events", "text/event-stream"), ("partials", "application/x-ndjson"), ("log?follow=1", "*/*")],
)
def test_what_is_sent_at_once_is_one_large_event_at_most(world: World, path: str, accept: str) -> None:
    job_id = large(world, 10)
    answer = world.client.get(f"/jobs/{job_id}/{path}", headers={"Accept": accept}, buffered=False)
    sent = [len(piece) for piece in answer.iter_encoded()]
    assert sum(sent) >= (0 if "log" in path else 10 * LARGE)
    assert max(sent) < LARGE + (65 << 10)


def test_small_frames_are_put_together_and_large_ones_are_not() -> None:
    small, big = [b"x" * 100] * 1000, [b"y" * 70_000] * 3
    assert [len(piece) for piece in pieces([*small, *big])] == [65_600, 34_400 + 70_000, 70_000, 70_000]
    assert list(pieces([])) == []


def test_a_stream_goes_on_when_there_is_news_and_not_at_the_next_sign_of_life(world: World) -> None:
    job_id = world.running()
    with world.app.test_request_context("/"), ThreadPoolExecutor(1) as threads:
        news = follow(job_id, 0)
        assert len(next(news).events) == 2
        for number in (3, 4):
            more = threads.submit(next, news)
            world.say(job_id, (EventKind.LOG, "more"))
            assert [one.seq for one in more.result(7).events] == [number]
        world.app.watcher.close()


def test_a_stream_whose_job_is_deleted_ends(world: World, caplog: pytest.LogCaptureFixture) -> None:
    job_id = world.running()
    with world.app.test_request_context("/"):
        news = follow(job_id, 0)
        assert len(next(news).events) == 2
        world.end(job_id, Ending.SUCCEEDED)
        assert world.client.delete(f"/jobs/{job_id}").status_code == 204
        caplog.set_level("INFO")
        assert list(news) == []
    assert f"there is no job {job_id}" in caplog.text
    assert world.app.watcher.waiting == 0


def test_a_stream_whose_store_cannot_be_read_ends(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.api.following.BEAT_SECONDS", 0.01)
    job_id = world.running()
    caplog.set_level("INFO")
    with world.app.test_request_context("/"):
        news = follow(job_id, 0)
        assert len(next(news).events) == 2
        away = world.store.path.rename(world.store.path.with_suffix(".away"))
        assert all(one.events == [] for one in news)
        away.rename(world.store.path)
    assert f"what is told of job {job_id} breaks off" in caplog.text
    assert world.app.watcher.waiting == 0
