from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from jobrunner.api.app import create_app
from jobrunner.settings import Settings
from jobrunner.store import dispatchers
from tests.api.world import World, made_in, problem


def failing(world: World) -> dict[str, str]:
    """Return what is not ready, and why."""
    told = problem(world.client.get("/readyz"), 503, "not-ready")
    assert [check["name"] for check in told["checks"]] == ["schema", "store", "dispatcher", "tasks", "sqlite"]
    assert all("\n" not in check["detail"] for check in told["checks"])
    return {check["name"]: check["detail"] for check in told["checks"] if not check["ok"]}


def test_the_api_lives_whatever_the_store_does(tmp_path: Path) -> None:
    client = create_app(Settings(data=tmp_path / "missing")).test_client()
    assert client.get("/livez").get_json() == {"alive": True}
    assert not (tmp_path / "missing").exists()


def test_all_is_well(world: World) -> None:
    answer = world.client.get("/readyz")
    assert answer.status_code == 200
    told = answer.get_json()
    assert told["ready"]
    assert all(check["ok"] for check in told["checks"])


def test_without_a_sign_of_life_of_a_dispatcher_it_is_not_ready(world: World) -> None:
    world.dispatcher_falls_silent()
    [(name, detail)] = failing(world).items()
    assert (name, "15 s" in detail) == ("dispatcher", True)


def test_a_task_module_that_cannot_be_imported_is_named_with_its_error(world: World) -> None:
    trace = "Traceback (most recent call last):\n  File ...\nModuleNotFoundError: No module named 'nmupy'\n"
    died = "importing it ended the process: killed by SIGSEGV\nsome output"
    with world.store.write(durable=False) as connection:
        dispatchers.set_module_errors(connection, world.dispatcher_id, {"mytasks": trace, "others": died})
    assert failing(world) == {
        "tasks": "mytasks: ModuleNotFoundError: No module named 'nmupy'; "
        "others: importing it ended the process: killed by SIGSEGV"
    }


def test_a_dispatcher_that_has_published_no_task_yet_is_not_ready(world: World) -> None:
    """It enters itself first, and a job that is submitted in between is refused."""
    world.publish([])
    assert failing(world)["tasks"].startswith("none is published: ")
    assert failing(world).keys() == {"tasks"}


def test_a_store_that_nobody_has_made_names_the_command_and_makes_none(tmp_path: Path) -> None:
    client = create_app(Settings(data=tmp_path)).test_client()
    told = problem(client.get("/readyz"), 503, "not-ready")
    assert "jobrunner db upgrade" in told["detail"]
    for method, path in (("GET", "/jobs"), ("GET", "/jobs/1"), ("GET", "/stats"), ("GET", "/tasks")):
        answer = client.open(path, method=method)
        assert "jobrunner db upgrade" in problem(answer, 503, "schema-version")["detail"]
        assert answer.headers["Retry-After"]
    answer = client.post("/jobs", json={"task": "demo.nothing"})
    problem(answer, 503, "schema-version")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("revision", "remedy"), [("9999", "newer"), (None, "jobrunner db upgrade")])
def test_a_schema_of_another_version_names_the_remedy(
    tmp_path: Path, revision: str | None, remedy: str
) -> None:
    world = made_in(tmp_path)
    with world.store.write(durable=True) as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if revision is not None:
            connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
    assert remedy in failing(world)["schema"]
    answer = world.client.post("/jobs", json={"task": "demo.nothing"})
    assert remedy in problem(answer, 503, "schema-version")["detail"]
    world.store.close()


@pytest.fixture
def blocked(world: World) -> Iterator[World]:
    """A world whose store another writer holds on to."""
    with world.store.write(durable=False):
        yield world


def test_a_store_that_somebody_holds_on_to_is_503_with_retry_after(blocked: World) -> None:
    answer = blocked.client.post("/jobs", json={"task": "demo.nothing"})
    told = problem(answer, 503, "store-unavailable")
    assert "locked" in told["detail"]
    assert answer.headers["Retry-After"] == "1"
    assert blocked.client.get("/jobs").get_json()["items"] == []  # reading goes on
