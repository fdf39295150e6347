"""Whatever goes wrong is told as problem+json, with its status from one table."""

import logging
from pathlib import Path
from typing import Any

import pytest

from jobrunner.api import problems
from jobrunner.api.app import create_app
from jobrunner.errors import JobrunnerError, LeaseLostError, StoreError
from jobrunner.settings import Settings
from tests.api.world import World, made_in, problem


def kinds_of(kind: type[JobrunnerError]) -> set[type[JobrunnerError]]:
    """Return `kind` and all that derive from it, as far as the API can meet them."""
    found = {kind}.union(*(kinds_of(derived) for derived in kind.__subclasses__()))
    return {one for one in found if one.__module__.startswith(("jobrunner.errors", "jobrunner.api"))}


def test_every_error_has_a_status_or_is_known_to_be_internal() -> None:
    assert problems.STATUS.keys() | problems.INTERNAL == kinds_of(JobrunnerError)
    assert not problems.STATUS.keys() & problems.INTERNAL


def test_every_problem_has_a_name_of_its_own_and_a_title() -> None:
    names = [problems.slug(kind) for kind in problems.STATUS]
    assert len(set(names)) == len(names)
    assert {"job-not-found", "queue-full", "not-finished", "job-failed", "already-finished"} <= set(names)
    assert all(problems.title(kind) for kind in problems.STATUS)


def test_every_503_says_when_to_try_again() -> None:
    unavailable = {kind for kind, status in problems.STATUS.items() if status == 503}
    assert unavailable == problems.RETRY_AFTER_SECONDS.keys()


def test_every_type_leads_to_an_explanation(world: World) -> None:
    listed = world.client.get("/problems").get_json()["items"]
    assert len(listed) == len(problems.STATUS)
    for one in listed:
        answer = world.client.get(one["type"])
        assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
        assert answer.text.startswith(one["title"])
        assert str(one["status"]) in answer.text


def test_a_problem_that_does_not_exist_has_no_explanation(world: World) -> None:
    problem(world.client.get("/problems/boredom"), 404, "path-not-found")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/jobs/1/nothing", "/jobs//1", "/jobs/1/log/x", "/%00", "/é%0A", "/static/x"],
)
def test_a_path_that_leads_nowhere_is_404(world: World, path: str) -> None:
    problem(world.client.get(path), 404, "path-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/jobs", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PATCH", "/jobs/1", {"DELETE", "GET", "HEAD", "OPTIONS"}),
        ("GET", "/jobs/1/cancel", {"OPTIONS", "POST"}),
        ("POST", "/stats", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/livez", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_and_the_others_are_named(
    world: World, method: str, path: str, allowed: set[str]
) -> None:
    answer = world.client.open(path, method=method)
    problem(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed


def test_every_path_answers_with_and_without_a_slash_at_its_end(world: World) -> None:
    job_id = world.succeeded(1)
    for path in (
        "/jobs",
        f"/jobs/{job_id}",
        f"/jobs/{job_id}/result",
        "/tasks",
        "/tasks/demo.paint",
        "/livez",
    ):
        assert world.client.get(path).status_code == 200
        assert world.client.get(f"{path}/").status_code == 200
    assert world.client.post("/jobs/", json={"task": "demo.nothing"}).status_code == 202
    assert world.client.post("/jobs/batch/", json=[{"task": "demo.nothing"}]).status_code == 202


def test_head_is_get_without_the_body(world: World) -> None:
    job_id = world.submit()
    for path in ("/jobs", f"/jobs/{job_id}", "/tasks", "/stats", "/livez", "/readyz", "/"):
        head, get = world.client.head(path), world.client.get(path)
        assert (head.status_code, head.data) == (200, b"")
        assert head.content_type == get.content_type
    assert world.client.head(f"/jobs/{job_id}").headers["ETag"] == '"1"'
    assert world.client.head("/jobs/7").status_code == 404


def test_the_index_lists_every_endpoint_and_each_answers(world: World) -> None:
    told = world.client.get("/").get_json()
    assert told["name"] == "jobrunner"
    endpoints = {(one["method"], one["path"]): one["does"] for one in told["endpoints"]}
    assert ("POST", "/jobs") in endpoints
    assert ("GET", "/jobs/{job_id}/partials") in endpoints
    assert all(endpoints.values())
    for method, path in endpoints:
        answer = world.client.open(path.format(job_id=1, name="demo.paint"), method=method)
        assert answer.status_code != 405


def test_answers_are_not_to_be_cached_without_asking(world: World) -> None:
    assert world.client.get("/jobs").headers["Cache-Control"] == "no-cache"
    assert world.client.get("/nothing").headers["Cache-Control"] == "no-cache"


class BrokenError(Exception):
    """Something nobody thought of."""


@pytest.mark.parametrize("error", [BrokenError("secret"), LeaseLostError(5), KeyError("x"), RecursionError()])
def test_a_fault_of_our_own_is_500_with_an_id_that_the_log_knows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail() -> Any:
        raise error

    world = made_in(tmp_path)
    world.app.add_url_rule("/fail", view_func=fail)
    answer = world.client.get("/fail")
    world.close()
    told = problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert told["correlation_id"] in caplog.text
    assert type(error).__name__ in caplog.text


def test_the_log_cannot_be_forged_by_a_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings(data=tmp_path))
    with caplog.at_level(logging.DEBUG):
        app.test_client().get("/jobs/%0AERROR forged")
        app.test_client().get("/tasks/%0AERROR forged")
    assert "\nERROR forged" not in caplog.text


def test_a_store_that_this_version_cannot_use_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="SQLite"):
        create_app(Settings(data=tmp_path, database_url="postgresql://localhost/x"))
