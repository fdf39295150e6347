"""What holds for every path: its methods, its slashes, what a browser gets."""

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from jobrunner.api import pages, problems
from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from tests.api.world import World, made_in, problem

FILLED = {
    "/tasks/{name}": "/tasks/demo.paint",
    "/queues/{name}": "/queues/default",
    "/problems/{name}": "/problems/not-ready",
    "/jobs/finished": "/jobs/finished?label=who:me",
    "/jobs/{job_id}/items": "/jobs/2/items",
}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Job 1 has succeeded, with a log and a partial result; job 2 is a map job."""
    made = made_in(tmp_path_factory.mktemp("contract"))
    job_id = made.running(labels={"who": "me"})
    made.say(job_id, (EventKind.LOG, "hello\n"), (EventKind.PARTIAL, "1"))
    made.end(job_id, Ending.SUCCEEDED, result=5)
    made.mapped(1, 2)
    yield made
    made.close()


def endpoints(world: World) -> list[tuple[str, str]]:
    """Return every method with its path, which leads to something."""
    told = world.client.get("/").get_json()["endpoints"]
    return [(one["method"], FILLED.get(one["path"], one["path"]).format(job_id=1)) for one in told]


def gets(world: World) -> list[str]:
    return [path for method, path in endpoints(world) if method == "GET"]


def with_slash(path: str) -> str:
    return re.sub(r"/?(\?.*)?$", r"/\1", path, count=1)


# -- methods --------------------------------------------------------------------------------------


def test_the_index_lists_every_endpoint_with_what_it_does(world: World) -> None:
    told = world.client.get("/").get_json()
    assert told["name"] == "jobrunner"
    listed = {(one["method"], one["path"]): one["does"] for one in told["endpoints"]}
    assert {("POST", "/jobs"), ("GET", "/jobs/{job_id}/partials"), ("GET", "/openapi.json")} <= listed.keys()
    assert all(listed.values())


def test_every_get_answers_and_head_is_the_same_without_the_body(world: World) -> None:
    assert len(gets(world)) > 20
    for path in gets(world):
        get, head = world.client.get(path), world.client.head(path)
        assert get.status_code == 200, (path, get.text)
        assert get.data, path
        assert (head.status_code, head.data) == (200, b""), path
        different = {"Date", "Content-Length"}  # the latter may be left out
        kept = [[one for one in answer.headers if one[0] not in different] for answer in (get, head)]
        assert kept[0] == kept[1], path


def test_a_head_tells_of_what_is_not_there(world: World) -> None:
    for path in ("/jobs/999", "/jobs/999/events", "/nothing", "/tasks/nothing"):
        answer = world.client.head(path)
        assert (answer.status_code, answer.data) == (404, b"")


@pytest.mark.parametrize(
    "path",
    ["?wait=60", "/result?wait=60", "/partials?wait=60", "/events", "/log?follow=1", "/partials"],
)
def test_a_head_waits_for_nothing_and_follows_nothing(world: World, path: str) -> None:
    job_id = world.submit()
    headers = {"Accept": "application/x-ndjson"} if path == "/partials" else {"Prefer": "wait=60"}
    began = time.monotonic()
    answer = world.client.head(f"/jobs/{job_id}{path}", headers=headers)
    assert time.monotonic() - began < 30
    assert answer.status_code == (409 if "result" in path else 200)
    assert world.app.watcher.waiting == 0


def test_every_path_says_which_methods_it_takes_and_takes_no_others(world: World) -> None:
    taken: dict[str, set[str]] = {}
    for method, path in endpoints(world):
        taken.setdefault(path, set()).update({method, "OPTIONS"} | ({"HEAD"} if method == "GET" else set()))
    for path, methods in taken.items():
        answer = world.client.options(path)
        assert (answer.status_code, answer.data) == (200, b"")
        assert set(answer.headers["Allow"].split(", ")) == methods, path
        for other in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - methods:
            refused = world.client.open(path, method=other)
            told = problem(refused, 405, "method-not-allowed")
            assert set(refused.headers["Allow"].split(", ")) == methods, path
            assert told["detail"].endswith(f"not {other}")


def test_every_path_answers_with_and_without_a_slash_at_its_end(world: World) -> None:
    for method, path in endpoints(world):
        if method == "DELETE":
            continue
        plain, slashed = (world.client.open(one, method=method) for one in (path, with_slash(path)))
        assert plain.status_code == slashed.status_code, path
        assert plain.status_code not in {301, 308, 404}, path
    body = {"task": "demo.nothing"}
    assert world.client.post("/jobs/", json=body).status_code == 202
    assert world.client.post("/jobs/batch/", json=[body]).status_code == 202


def test_no_page_of_another_site_is_ever_let_in(world: World) -> None:
    asked = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for method, path in endpoints(world):
        for answer in (
            world.client.open(path, method="OPTIONS", headers=asked),
            world.client.open(path, method=method, headers={"Origin": "http://elsewhere.example"}),
            world.client.open(path, method="OPTIONS"),
        ):
            assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")], path


# -- pages ----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags, links and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_data(self, data: str) -> None:
        self.words += data


def shown(world: World, path: str) -> Page:
    """Return the page that a browser gets, which can do nothing but be read."""
    answer = world.client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8"), path
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    (style,) = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Accept" in answer.headers["Vary"]
    page = Page(answer.text)
    assert not {"script", "iframe", "object", "form", "img", "link"} & set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on") or name in {"style", "src"}]
    return page


def test_a_page_shows_what_it_is_told_as_it_is(world: World) -> None:
    given = '<b>"&amp;'
    with world.app.test_request_context("/"):
        text = pages.page(given, [f"{given} `{given}`"], [(given, pages.link(given, given))]).get_data(
            as_text=True
        )
    page = Page(text)
    assert "b" not in page.tags
    assert (page.words.count(given), page.links) == (6, [given])


def test_the_index_is_a_page_for_a_browser_whose_links_lead_somewhere(world: World) -> None:
    page = shown(world, "/")
    for one in world.client.get("/").get_json()["endpoints"]:
        assert one["does"].replace("`", "") in page.words
    assert {"/jobs", "/problems", "/openapi.json"} <= set(page.links)
    for link in page.links:
        assert world.client.get(link).status_code == 200, link


def test_the_problems_are_pages_for_a_browser(world: World) -> None:
    page = shown(world, "/problems")
    assert len(page.links) == len(problems.STATUS)
    for link in page.links:
        told = shown(world, link)
        plain = world.client.get(link)
        assert plain.content_type == "text/plain; charset=utf-8"
        assert " ".join(told.words.split()).endswith(plain.text.split("\n\n")[-1].strip())
        assert "`" not in told.words


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "text/plain", "nonsense", "image/png", ""]
)
def test_who_does_not_ask_for_a_page_gets_none(world: World, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    assert world.client.get("/", headers=headers).content_type == "application/json"
    assert world.client.get("/problems", headers=headers).content_type == "application/json"
    answer = world.client.get("/problems/not-ready", headers=headers)
    assert answer.content_type == "text/plain; charset=utf-8"


def test_whatever_is_accepted_the_answer_is_what_there_is(world: World) -> None:
    for path in ("/jobs", "/jobs/1", "/jobs/1/log", "/stats"):
        answer = world.client.get(path, headers={"Accept": "image/png"})
        assert answer.status_code == 200, path


def test_a_problem_that_does_not_exist_has_no_explanation(world: World) -> None:
    for headers in ({}, BROWSER):
        problem(world.client.get("/problems/<script>", headers=headers), 404, "path-not-found")
