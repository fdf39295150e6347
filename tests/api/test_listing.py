import re
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

from jobrunner.api import cursor
from jobrunner.errors import InvalidCursorError
from jobrunner.lifecycle import State
from jobrunner.store.lists import Filter
from tests.api.world import World, problem


def listed(world: World, query: str = "") -> Any:
    answer = world.client.get(f"/jobs{query}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def ids(world: World, query: str = "") -> list[int]:
    return [job["id"] for job in listed(world, query)["items"]]


def test_an_empty_store_has_an_empty_list(world: World) -> None:
    assert listed(world) == {"items": [], "next": None}


def test_jobs_are_listed_newest_first_as_each_is_shown_alone(world: World) -> None:
    made = [world.submit() for _ in range(3)]
    items = listed(world)["items"]
    assert [job["id"] for job in items] == made[::-1]
    alone = world.show(made[0])
    assert items[-1] | {"waited_seconds": 0} == alone | {"waited_seconds": 0}


def test_pages_hold_every_job_once_while_new_ones_arrive(world: World) -> None:
    made = [world.submit() for _ in range(7)]
    seen = []
    query = "/jobs?limit=3"
    while query:
        answer = world.client.get(query)
        page = answer.get_json()
        seen += [job["id"] for job in page["items"]]
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        assert bool(link) == bool(page["next"])
        query = link[1] if link else ""
        world.submit()
    assert seen == made[::-1]


def test_a_page_that_ends_with_the_last_job_has_no_next(world: World) -> None:
    for _ in range(3):
        world.submit()
    assert listed(world, "?limit=3")["next"] is None
    assert listed(world, "?limit=2")["next"] is not None


def test_the_link_to_the_next_page_keeps_the_filters(world: World) -> None:
    for _ in range(3):
        world.submit(labels={"who": "a b&c"})
    answer = world.client.get("/jobs?limit=1&label=who:a%20b%26c&state=queued&state=running")
    link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers["Link"])
    assert link
    assert dict(parse_qsl(link[1].partition("?")[2]))["label"] == "who:a b&c"
    following = world.client.get(link[1])
    assert len(following.get_json()["items"]) == 1
    assert following.headers["Link"].count("after=") == 1
    assert "label=who" in following.headers["Link"]


@pytest.mark.parametrize("label", ['a>; rel="prev", <x', "é", "a,b;c", "100%"])
def test_no_label_breaks_out_of_the_link(world: World, label: str) -> None:
    for _ in range(2):
        world.submit(labels={"who": label})
    answer = world.client.get("/jobs", query_string={"limit": 1, "label": f"who:{label}"})
    link = re.fullmatch(r'<(/jobs\?[A-Za-z0-9%&=+._-]+)>; rel="next"', answer.headers["Link"])
    assert link
    assert len(world.client.get(link[1]).get_json()["items"]) == 1


def test_the_filters_narrow_the_list(world: World) -> None:
    done = world.succeeded()
    failed = world.failed()
    train = world.submit("demo.train", params={"dataset": "d"}, labels={"who": "ci", "n": "1"})
    other = world.submit(queue="fast", labels={"who": "ci", "n": "2"})
    assert ids(world, "?state=succeeded") == [done]
    assert ids(world, "?state=succeeded&state=failed") == [failed, done]
    assert ids(world, "?task=demo.train") == [train]
    assert ids(world, "?queue=fast") == [other]
    assert ids(world, "?label=who:ci") == [other, train]
    assert ids(world, "?label=who:ci&label=n:1") == [train]
    assert ids(world, "?label=who:cix") == []
    assert ids(world, "?task=demo.train&queue=fast") == []
    assert ids(world, "?task=no.such") == []


def test_a_label_s_value_may_hold_colons_and_be_empty(world: World) -> None:
    job_id = world.submit(labels={"url": "http://x:1/", "empty": ""})
    assert ids(world, "?label=url:http://x:1/") == [job_id]
    assert ids(world, "?label=empty:") == [job_id]


def test_created_after_leaves_out_the_older_ones(world: World) -> None:
    older = world.submit()
    newer = world.submit()
    moment = world.show(older)["created_at"]
    assert ids(world, f"?created_after={moment}") == [newer]
    shifted = moment.replace("Z", "+00:00")
    assert ids(world, f"?created_after={quote(shifted)}") == [newer]
    assert ids(world, "?created_after=2001-01-01T00:00:00Z") == [newer, older]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=5.0", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=5_0", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 3000, "limit"),
        ("limit=5&limit=6", "limit"),
        ("after=x&after=y", "after"),
        ("task=", "task"),
        ("task=a&task=b", "task"),
        ("task=%00", "task"),
        ("queue=" + "x" * 101, "queue"),
        ("state=done", "state"),
        ("state=", "state"),
        ("state=QUEUED", "state"),
        ("state=queued&state=x", "state"),
        ("state=queued,failed", "state"),
        ("label=who", "label"),
        ("label=:x", "label"),
        ("label=a%20b:x", "label"),
        ("label=a:b&label=b", "label"),
        ("created_after=2030-01-01", "created_after"),
        ("created_after=2030-01-01T00:00:00", "created_after"),
        ("created_after=2030-01-01T00:00:00+00:00", "created_after"),
        ("wher=1", "wher"),
        ("State=queued", "State"),
        ("_schema=1", "_schema"),
    ],
)
def test_a_bad_query_is_400_and_names_its_parameter(world: World, query: str, parameter: str) -> None:
    told = problem(world.client.get(f"/jobs?{query}"), 400, "invalid-query")
    assert {error["parameter"] for error in told["errors"]} == {parameter}


def test_an_unknown_parameter_is_answered_with_the_known_ones(world: World) -> None:
    told = problem(world.client.get("/jobs?status=queued"), 400, "invalid-query")
    assert "state, task, queue, label, created_after, limit, after" in told["detail"]


def test_a_cursor_belongs_to_its_filters(world: World) -> None:
    for _ in range(3):
        world.submit()
    after = listed(world, "?limit=1&state=queued")["next"]
    assert len(ids(world, f"?limit=2&state=queued&after={after}")) == 2
    for query in ("?", "?state=queued&state=failed&", "?state=queued&task=demo.nothing&", "?state=failed&"):
        problem(world.client.get(f"/jobs{query}after={after}"), 400, "invalid-cursor")


@pytest.mark.parametrize(
    "after", ["", "5", "!", "=", "AAAA", "é", "A" * 22, "A" * 5000, "%00", "AAAAAAAAAAAAAAAAAAAAAA=="]
)
def test_a_cursor_that_nobody_made_is_400(world: World, after: str) -> None:
    world.submit()
    problem(world.client.get(f"/jobs?after={after}"), 400, "invalid-cursor")


def test_a_cursor_with_any_character_changed_is_refused() -> None:
    wanted = Filter(states=(State.QUEUED,), labels=(("a", "b"),))
    made = cursor.encode(12345, wanted)
    assert cursor.decode(made, wanted) == 12345
    for place in range(len(made)):
        for other in ("A", "B", "_", "9", ""):
            changed = made[:place] + other + made[place + 1 :]
            if changed != made:
                with pytest.raises(InvalidCursorError):
                    cursor.decode(changed, wanted)


def test_a_cursor_does_not_mind_the_order_of_the_filters() -> None:
    one = Filter(states=(State.QUEUED, State.FAILED), labels=(("a", "1"), ("b", "2")))
    other = Filter(states=(State.FAILED, State.QUEUED), labels=(("b", "2"), ("a", "1")))
    assert cursor.decode(cursor.encode(9, one), other) == 9
