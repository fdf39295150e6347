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


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/jobs/1/nothing", "/jobs//1", "/jobs/1/log/x", "/%00", "/é%0A", "/static/x"],
)
def test_a_path_that_leads_nowhere_is_404(world: World, path: str) -> None:
    problem(world.client.get(path), 404, "path-not-found")


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
