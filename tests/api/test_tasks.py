from jobrunner.store import dispatchers
from tests.api.world import CAREFUL, OFFERED, World, problem


def test_every_published_task_is_listed(world: World) -> None:
    assert world.client.get("/tasks").get_json() == {"items": OFFERED, "module_errors": {}}


def test_modules_that_cannot_be_imported_are_named_beside_the_tasks(world: World) -> None:
    trace = "Traceback (most recent call last):\n  File ...\nImportError: no such thing\n"
    with world.store.write(durable=False) as connection:
        dispatchers.set_module_errors(
            connection, world.dispatcher_id, {"mine": trace, "other": "it was\nkilled"}
        )
    told = world.client.get("/tasks").get_json()
    assert told == {
        "items": OFFERED,
        "module_errors": {"mine": "ImportError: no such thing", "other": "it was"},
    }
    world.dispatcher_falls_silent()
    assert world.client.get("/tasks").get_json()["module_errors"] == {}


def test_a_task_says_what_it_takes_and_what_holds_for_its_jobs(world: World) -> None:
    task = world.client.get("/tasks/demo.train").get_json()
    assert task["doc"] == "Fit a classifier."
    assert task["params"]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert task["params"]["required"] == ["dataset"]
    assert task["options"] == CAREFUL


def test_a_task_that_nobody_publishes_is_404(world: World) -> None:
    told = problem(world.client.get("/tasks/no.such"), 404, "task-not-found")
    assert "no.such" in told["detail"]


def test_an_unknown_parameter_is_400(world: World) -> None:
    told = problem(world.client.get("/tasks?limit=5"), 400, "invalid-query")
    assert told["errors"] == [{"parameter": "limit", "detail": "is not known here; there is nothing to say"}]
    problem(world.client.get("/tasks/demo.train?limit=5"), 400, "invalid-query")
