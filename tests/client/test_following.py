"""Following a job: every partial result once, in order, whatever the API does meanwhile."""

import itertools
from typing import Any

import pytest

from jobrunner.client import Client, Follower, UnreachableError
from jobrunner.client.following import FIRST_REST_SECONDS, LONGEST_REST_SECONDS, follow
from tests.cli.scripted import Reply, Server, job


def _partials(*seqs: int) -> Reply:
    items = [{"seq": seq, "attempt": 1, "at": "2026-11-23T01:02:03Z", "value": seq} for seq in seqs]
    return Reply({"items": items, "next_after": 0, "complete": False})


def _running(version: int, partials: int, **more: Any) -> Reply:
    return Reply(job(state="running", reason=None, version=version, partials=partials, attempt=1, **more))


def _done(version: int, partials: int) -> Reply:
    return Reply(job(state="succeeded", reason=None, version=version, partials=partials, result=1))


def test_a_look_at_a_job_that_has_not_changed_finds_nothing(server: Server, client: Client) -> None:
    server.replies = [_running(2, 0), _running(2, 0)]
    follower = Follower(client, 42)
    assert follower.look() is not None
    assert follower.look() is None


def test_a_changed_reason_is_news_although_nothing_happened_to_the_job(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job()), Reply(job(reason="no dispatcher"))]
    follower = Follower(client, 42)
    reasons = [news.job["reason"] for news in (follower.look(), follower.look()) if news]
    assert reasons == ["waiting for a worker", "no dispatcher"]


def test_each_partial_result_is_found_once_and_asked_for_by_its_place(server: Server, client: Client) -> None:
    server.replies = [_running(4, 2), _partials(3, 4), _running(7, 3), _partials(6), _done(8, 3)]
    looks = list(follow(Follower(client, 42), rest=lambda _: None))
    assert [[one["seq"] for one in news.partials] for news in looks] == [[3, 4], [6], []]
    assert [news.is_last for news in looks] == [False, False, True]
    asked = [request.path for request in server.requests if "partials" in request.path]
    assert asked == ["/jobs/42/partials?after=0&limit=1000", "/jobs/42/partials?after=4&limit=1000"]


def test_a_final_job_is_not_the_last_news_while_some_of_its_results_are_not_seen(
    server: Server, client: Client
) -> None:
    """The API may answer with fewer than were asked for, if they are large."""
    server.replies = [_done(9, 3), _partials(3, 4), _done(9, 3), _partials(5)]
    looks = list(follow(Follower(client, 42), rest=lambda _: None))
    assert [(len(news.partials), news.is_last) for news in looks] == [(2, False), (1, True)]


def test_rests_grow_while_nothing_happens_and_are_short_again_when_something_does(
    server: Server, client: Client
) -> None:
    still = [_running(2, 0)] * 12
    server.replies = [*still, _running(3, 0), _running(3, 0), _done(4, 0)]
    rests: list[float] = []
    assert len(list(follow(Follower(client, 42), rest=rests.append))) == 3
    assert rests[0] == rests[12] == FIRST_REST_SECONDS
    assert rests[11] == LONGEST_REST_SECONDS
    assert all(earlier <= later for earlier, later in itertools.pairwise(rests[:12]))


def test_several_jobs_are_followed_side_by_side_each_to_its_own_end(server: Server, client: Client) -> None:
    server.replies = [_running(2, 0), _done(5, 0), _done(3, 0)]
    looks = list(follow(Follower(client, 1), Follower(client, 2), rest=lambda _: None))
    assert [news.is_last for news in looks] == [False, True, True]
    assert [request.path for request in server.requests] == ["/jobs/1", "/jobs/2", "/jobs/1"]


def test_an_api_that_is_away_for_a_moment_is_waited_for(server: Server, client: Client) -> None:
    server.replies = [Reply(hang_up="before"), Reply(hang_up="before"), _done(3, 0)]
    assert [news.is_last for news in follow(Follower(client, 42), rest=lambda _: None)] == [True]


def test_an_api_that_stays_away_is_given_up(server: Server, client: Client) -> None:
    server.replies = [Reply(hang_up="before") for _ in range(3)]
    following = follow(Follower(client, 42), rest=lambda _: None, patience_seconds=0.0)
    with pytest.raises(UnreachableError):
        next(following)


def _attempts(*numbers: int) -> Reply:
    last = {"dispatcher": 1, "worker": 0, "started_at": "2026-11-23T01:02:03Z", "finished_at": None}
    last |= {"outcome": None, "error": None, "peak_memory_bytes": None, "cpu_seconds": None}
    return Reply({"items": [{"attempt": number, **last} for number in numbers]})


def test_each_attempt_that_ended_is_found_once_but_the_one_that_made_the_job_final(
    server: Server, client: Client
) -> None:
    def looked(state: str, attempt: int, version: int) -> Reply:
        return Reply(job(state=state, reason=None, attempt=attempt, version=version))

    server.replies = [
        looked("running", 1, 2),
        looked("queued", 1, 3),
        _attempts(1),
        looked("running", 2, 4),
        looked("succeeded", 4, 9),
        _attempts(1, 2, 3, 4),
    ]
    looks = list(follow(Follower(client, 42), rest=lambda _: None))
    assert [[one["attempt"] for one in news.ended] for news in looks] == [[], [1], [], [2, 3]]


def test_what_a_look_has_found_when_the_api_goes_away_is_found_again(server: Server, client: Client) -> None:
    again = Reply(job(state="queued", reason=None, attempt=1, version=5, partials=1))
    gone = Reply(hang_up="before")
    impatient = Client(server.url, patience_seconds=0.0)
    server.replies = [again, _partials(3), gone, gone, again, _partials(3), _attempts(1), _done(6, 1)]
    with impatient:
        looks = list(follow(Follower(impatient, 42), rest=lambda _: None))
    assert [[one["seq"] for one in news.partials] for news in looks] == [[3], []]
    assert [len(news.ended) for news in looks] == [1, 0]
