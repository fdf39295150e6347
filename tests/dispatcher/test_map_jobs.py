"""What the items of a map job may do, in real job processes."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobrunner.lifecycle import State
from jobrunner.reports import EventKind
from jobrunner.store import jobs
from tests.dispatcher.running import World


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A dispatcher for all."""
    with closing(World(tmp_path_factory.mktemp("served"))) as made:
        made.start(tasks="sweeping")
        yield made


def run(world: World, task: str, spec: Any, items: int, **more: Any) -> jobs.Job:
    told = {name: more.pop(name) for name in tuple(more) if name in jobs.NewMap.__slots__}
    new = jobs.NewMap(json.dumps(spec), items, **told)
    return world.run(f"sweeping.{task}", map=new, **more)


def values(world: World, job: jobs.Job) -> dict[int, Any]:
    found = {event.item: json.loads(event.data) for event in world.events(job.id) if event.item is not None}
    return {item: value for item, value in found.items() if item is not None}


def test_an_item_knows_its_index_and_its_value_is_kept_under_it(served: World) -> None:
    job = run(served, "where", [{"n": 5}, {"n": 6}, {"n": 7}], 3)
    told = values(served, job)
    assert {item: (value["n"], value["item"]) for item, value in told.items()} == {
        0: (5, 0),
        1: (6, 1),
        2: (7, 2),
    }
    assert (job.state, job.partials, job.progress) == (State.SUCCEEDED, 3, None)


def test_a_product_is_run_whole_with_what_all_have_in_common(served: World) -> None:
    job = run(served, "echo", {"m": ["a", "b"]}, 2, params={"n": [1]})
    assert values(served, job) == {0: [[1], "a"], 1: [[1], "b"]}


def test_parameters_that_must_be_named_are(served: World) -> None:
    job = run(served, "by_name", {"n": {"range": [0, 50]}}, 50)
    assert values(served, job) == {n: n for n in range(50)}


def test_a_parameter_that_refuses_a_value_fails_that_item_alone(served: World) -> None:
    job = run(served, "half", {"even": [{"n": n} for n in (0, 2, 3, 4)]}, 4)
    assert values(served, job) == {0: 0, 1: 1, 3: 2}
    assert served.error(job)["message"] == "1 of 4 items failed, the first is item 2: LookupError: 3 is odd"


def test_what_a_generator_returns_is_the_value_of_its_item(served: World) -> None:
    assert values(served, run(served, "doubled", {"n": [3, 4]}, 2)) == {0: 6, 1: 8}


def test_a_reduce_task_may_leave_values_unread_and_the_next_job_never_notices(served: World) -> None:
    more: dict[str, Any] = {"reduce_task": "sweeping.first_three", "reduce_params": "{}"}
    for _ in range(3):
        job = run(served, "same", {"n": {"range": [10, 50_010]}}, 50_000, **more)
        assert job.result == "[10,11,12]"
        claimed = served.events(job.id, EventKind.STATE)[1]
        assert job.started_at == claimed.at  # with its items, not with its reduce task
    assert run(served, "same", {"n": [1]}, 1).attempt == 1


def test_an_item_that_outlasts_its_timeout_pays_for_itself_alone(served: World, tmp_path: Path) -> None:
    job = run(
        served,
        "deaf",
        {"n": {"range": [0, 6]}},
        6,
        params={"directory": str(tmp_path)},
        chunk_size=6,
        timeout_seconds=0.1,
    )
    ran = {int(path.stem) for path in tmp_path.glob("*.runs")}
    assert ran == set(range(6))
    with served.store.read() as connection:
        query = "SELECT count(*) FROM item WHERE state = 'failed' AND job_id = ?"
        rows = connection.exec_driver_sql(query, (job.id,)).scalar()
    assert (rows or 0) + job.partials == 6
