"""Map jobs at the door: what may be said, and what each flaw is answered with."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner.api import body, published, submissions
from jobrunner.api.pointers import MAX_ERRORS
from jobrunner.clock import utc_now
from jobrunner.items import Items
from jobrunner.store import items, jobs
from tests.api.world import OFFERED, World, description, made_in, pointers, problem


def total(values: Any, scale: int = 1) -> None:
    """Add them up."""


def idle() -> None:
    """Take nothing."""


MILLION = 1_000_000
FEW = 1000  # that may be as the setting allows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = made_in(tmp_path_factory.mktemp("door"), max_items=10 * MILLION, max_params_bytes=FEW)
    made.publish([*OFFERED, description("demo.total", total), description("demo.idle", idle)])
    yield made
    made.close()


def stored(world: World, **said: Any) -> tuple[jobs.Job, items.MapJob, Items]:
    job_id = world.submit(**said)
    job, kept = jobs.get(world.store, job_id), items.get(world.store, job_id)
    return job, kept, Items.parse(items.spec(world.store, job_id))


def params(of: Items) -> list[dict[str, Any]]:
    return [of.params(index) for index in range(len(of))]


def flaws(world: World, **said: Any) -> dict[str, str]:
    """Return what is wrong with a submission, by its place."""
    told = problem(world.client.post("/jobs", json={"task": "demo.nothing", **said}), 422, "invalid-fields")
    return {one["pointer"]: one["detail"] for one in told["errors"]}


# -- what may be said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ([{"n": 1}, {}, {"n": 3.0}], [{"n": 1}, {}, {"n": 3.0}]),
        ({"n": [4, 2]}, [{"n": 4}, {"n": 2}]),
        ({"n": {"range": [0, 3]}}, [{"n": 0}, {"n": 1}, {"n": 2}]),
        ({"n": {"range": [5.0, 0, -2]}}, [{"n": 5}, {"n": 3}, {"n": 1}]),
    ],
)
def test_items_are_a_list_of_objects_or_what_a_parameter_runs_through(
    world: World, asked: Any, wanted: list[Any]
) -> None:
    job, _, found = stored(world, map=asked)
    assert params(found) == wanted
    assert job.item_count == len(wanted)


def test_several_parameters_make_a_product_whose_last_runs_fastest(world: World) -> None:
    asked = '{"task": "demo.train", "map": {"epochs": {"range": [1, 3]}, "dataset": ["a", "b"]}}'
    answer = world.client.post("/jobs", data=asked, content_type="application/json")
    job = jobs.get(world.store, answer.get_json()["id"])
    found = Items.parse(items.spec(world.store, job.id))
    assert [(one["epochs"], one["dataset"]) for one in params(found)] == [
        (1, "a"),
        (1, "b"),
        (2, "a"),
        (2, "b"),
    ]
    assert job.item_count == 4


def test_what_is_common_to_all_items_is_in_params(world: World) -> None:
    job, *_ = stored(world, task="demo.train", params={"dataset": "a"}, map={"epochs": [1, 2]})
    assert json.loads(job.params) == {"dataset": "a"}
    stored(world, task="demo.train", params={"epochs": 5}, map=[{"dataset": "a"}, {"dataset": "b"}])


def test_all_that_a_map_job_may_say_is_kept(world: World) -> None:
    limits = {"max_failed": 0, "max_parallel": 3, "chunk_size": MILLION}
    _, kept, _ = stored(
        world, map={"n": [1]}, reduce={"task": "demo.total", "params": {"scale": 2}}, **limits
    )
    assert (kept.reduce_task, json.loads(kept.reduce_params or "")) == ("demo.total", {"scale": 2})
    assert (kept.max_failed, kept.max_parallel, kept.chunk_size) == (0, 3, MILLION)
    _, kept, _ = stored(world, map={"n": [1]}, reduce="demo.total", retries=2, labels={"who": "me"})
    assert (kept.reduce_task, kept.reduce_params) == ("demo.total", "{}")
    _, kept, _ = stored(world, map={"n": [1]})
    assert (kept.reduce_task, kept.reduce_params, kept.max_failed) == (None, None, None)


def test_a_million_items_take_one_row_and_a_few_bytes(world: World) -> None:
    began = time.process_time()
    job, _, _ = stored(world, map={"n": {"range": [0, 10 * MILLION]}})
    assert time.process_time() - began < 1
    assert job.item_count == 10 * MILLION
    assert len(items.spec(world.store, job.id)) < 100


def test_map_jobs_may_be_in_a_batch_beside_others(world: World) -> None:
    batch: list[dict[str, Any]] = [
        {"task": "demo.nothing"},
        {"task": "demo.nothing", "map": {"n": [1, 2]}},
        {"task": "demo.train", "map": [{"dataset": "a"}]},
    ]
    ids = world.client.post("/jobs/batch", json=batch).get_json()["ids"]
    assert [jobs.get(world.store, one).item_count for one in ids] == [None, 2, 1]
    batch[1]["map"] = {"n": ["x"]}
    batch[2]["max_failed"] = -1
    told = problem(world.client.post("/jobs/batch", json=batch), 422, "invalid-fields")
    assert pointers(told) == ["#/1/map/n/0", "#/2/max_failed"]


def test_the_same_key_gives_back_the_same_map_job(world: World) -> None:
    headers = {"Idempotency-Key": "one"}
    said = {"task": "demo.nothing", "map": {"n": [1]}, "reduce": "demo.total"}
    first, second = (world.client.post("/jobs", json=said, headers=headers) for _ in range(2))
    assert first.get_json() == second.get_json() | {"waited_seconds": first.get_json()["waited_seconds"]}
    assert second.get_json()["map"]["reduce"] == {"task": "demo.total", "params": {}}
    other = world.client.post("/jobs", json={**said, "map": {"n": [2]}}, headers=headers)
    problem(other, 422, "idempotency-mismatch")


# -- the form -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "pointer", "says"),
    [
        (5, "#/map", "a list of parameter objects"),
        (None, "#/map", "a list of parameter objects"),
        ([], "#/map", "is an empty list: give at least one object of parameters"),
        ({}, "#/map", "is an empty object: name at least one parameter and its values"),
        ([{}, 5], "#/map/1", "an object of parameters"),
        ({"n": []}, "#/map/n", "is an empty list: give at least one value"),
        ({"n": 5}, "#/map/n", '{"range": [start, stop]}'),
        ({"n": {"rang": [1, 2]}}, "#/map/n", '{"range": [start, stop]}'),
        ({"n": {"range": [1, 2], "step": 1}}, "#/map/n", '{"range": [start, stop]}'),
        ({"n": {"range": 5}}, "#/map/n/range", "[start, stop, step]"),
        ({"n": {"range": [5]}}, "#/map/n/range", "[start, stop, step]"),
        ({"n": {"range": [0, "5"]}}, "#/map/n/range/1", "a whole number"),
        ({"n": {"range": [0, 1.5]}}, "#/map/n/range/1", "a whole number"),
        ({"n": {"range": [True, 1]}}, "#/map/n/range/0", "a whole number"),
        ({"n": {"range": [0, 10**18 + 1]}}, "#/map/n/range/1", "a whole number"),
        ({"n": {"range": [0, 5, 0]}}, "#/map/n/range/2", "must not be 0"),
        (
            {"n": {"range": [5, 5]}},
            "#/map/n/range",
            "[5, 5] is empty: it ends before stop, so stop must be above",
        ),
        ({"n": {"range": [0, 5, -1]}}, "#/map/n/range", "stop must be below start, for step is negative"),
        ({"n": {"range": [0, 10 * MILLION + 1]}}, "#/map", "max_items is 10000000"),
        ({"n": {"range": [-(10**18), 10**18]}}, "#/map", "max_items is 10000000"),
    ],
)
def test_a_map_that_is_none_is_refused_with_the_place_and_the_remedy(
    world: World, asked: Any, pointer: str, says: str
) -> None:
    (told,) = flaws(world, map=asked).items()
    assert told[0] == pointer
    assert says in told[1]


@pytest.mark.parametrize(
    ("asked", "pointer", "says"),
    [
        (5, "#/reduce", "a task's name, or"),
        ("", "#/reduce", "a task's name, or"),
        ("demo.train\n", "#/reduce", "a task's name, or"),
        ({}, "#/reduce/task", "is required"),
        ({"task": 5}, "#/reduce/task", "a task's name"),
        ({"task": "demo.total", "params": []}, "#/reduce/params", "an object"),
        ({"task": "demo.total", "parms": {}}, "#/reduce/parms", "there is task, params"),
        ("demo.totl", "#/reduce", "no task is named 'demo.totl'; known: demo.idle"),
        ({"task": "demo.totl"}, "#/reduce/task", "no task is named 'demo.totl'; known: demo.idle"),
        ("demo.idle", "#/reduce", "takes no parameters"),
        ({"task": "demo.total", "params": {"values": []}}, "#/reduce/params/values", "leave it out"),
        ({"task": "demo.total", "params": {"scale": "x"}}, "#/reduce/params/scale", "of type integer"),
        ({"task": "demo.total", "params": {"x": 1}}, "#/reduce/params/x", "is not a parameter"),
    ],
)
def test_a_reduce_that_is_none_is_refused_with_the_place_and_the_remedy(
    world: World, asked: Any, pointer: str, says: str
) -> None:
    (told,) = flaws(world, map={"n": [1]}, reduce=asked).items()
    assert told[0] == pointer
    assert says in told[1]


def test_a_reduce_task_whose_first_parameter_is_no_stream_is_refused(world: World) -> None:
    told = flaws(world, map={"n": [1]}, reduce="demo.train")
    assert "dataset, is of type string" in told["#/reduce"]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("max_failed", 0, None), ("max_parallel", 1, None), ("chunk_size", 1, 10 * MILLION)],
)
def test_numbers_of_map_jobs_have_bounds(world: World, name: str, least: int, most: int | None) -> None:
    for wrong in (least - 1, "1", None, 1.5, *([most + 1] if most else [])):
        assert flaws(world, map={"n": [1]}, **{name: wrong}).keys() == {f"#/{name}"}
    for right in (least, most or 1000):
        said: dict[str, Any] = {name: right}
        assert world.submit(map={"n": [1]}, **said)


def test_what_only_a_map_job_may_say_is_refused_without_map(world: World) -> None:
    said = {"reduce": "demo.total", "max_failed": 1, "max_parallel": 1, "chunk_size": 1}
    told = flaws(world, **said)
    assert told == {f"#/{name}": "goes with map alone" for name in said}


# -- the values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"map": {"n": [1, "x", 3, None]}}, {"#/map/n/1", "#/map/n/3"}),
        ({"map": {"x": [1], "n": [1]}}, {"#/map/x"}),
        ({"map": [{"n": 1}, {"n": "x"}, {"y": 1}]}, {"#/map/1/n", "#/map/2/y"}),
        ({"map": {"n": [1]}, "params": {"n": 5}}, {"#/map/n"}),
        ({"map": [{}, {"n": 1}], "params": {"n": 5}}, {"#/map/1/n"}),
        ({"map": {"n": [1]}, "params": {"x": 5}}, {"#/params/x"}),
        ({"map": {"n": [1]}, "params": 5}, {"#/params"}),
        ({"map": {"n": [1]}, "params": {"n": "x"}}, {"#/map/n", "#/params/n"}),
        ({"task": "demo.train", "map": {"epochs": [1]}}, {"#/params/dataset"}),
        ({"task": "demo.train", "map": [{"dataset": "a"}, {"epochs": 1}]}, {"#/map/1/dataset"}),
        (
            {"task": "demo.train", "map": {"epochs": {"range": [0, 5]}, "dataset": ["a"]}},
            {"#/map/epochs/range"},
        ),
        (
            {"task": "demo.train", "map": {"epochs": {"range": [1, 2000]}, "dataset": ["a"]}},
            {"#/map/epochs/range"},
        ),
        (
            {"task": "demo.paint", "map": {"where": [{"x": 1}, {"x": "a"}, {"y": 1}, None]}},
            {"#/map/where/1", "#/map/where/2/x"},
        ),
        ({"task": "demo.paint", "map": {"colour": ["red", "green"]}}, {"#/map/colour/1"}),
        ({"task": "no.such", "map": {"n": ["x"]}, "max_failed": -1}, {"#/task", "#/max_failed"}),
        (
            {"map": {"n": []}, "reduce": {"task": 5}, "max_failed": -1, "params": {"x": 1}, "priority": "x"},
            {"#/map/n", "#/reduce/task", "#/max_failed", "#/priority"},
        ),
    ],
)
def test_each_value_that_does_not_fit_the_task_is_named(world: World, said: Any, wanted: set[str]) -> None:
    found = {
        pointer.removesuffix("/x") if pointer == "#/map/where/1/x" else pointer
        for pointer in flaws(world, **said)
    }
    assert found == wanted


def test_of_a_range_the_value_at_fault_is_told(world: World) -> None:
    told = flaws(world, task="demo.train", params={"dataset": "a"}, map={"epochs": {"range": [1, 1002]}})
    assert told["#/map/epochs/range"].startswith("its value 1001 ")


def test_an_unknown_task_alone_is_told_as_ever(world: World) -> None:
    problem(world.client.post("/jobs", json={"task": "no.such", "map": {"n": [1]}}), 422, "unknown-task")


def test_of_very_many_flaws_the_first_are_told(world: World) -> None:
    told = flaws(world, map={"n": ["x"] * 50_000})
    assert list(told) == [f"#/map/n/{place}" for place in range(MAX_ERRORS)]
    assert len(flaws(world, map=[5] * 50_000)) == MAX_ERRORS
    assert len(flaws(world, map=[{"n": "x"}] * 50_000)) == MAX_ERRORS
    assert "#/map/n/49999" in flaws(world, map={"n": [1] * 49_999 + ["x"]})


def test_an_item_s_parameters_may_be_as_large_as_a_job_s(world: World) -> None:
    notes: dict[str, Any] = {"map": {"notes": [{"a": "x" * 500}, {"b": "y" * 800}]}, "task": "demo.paint"}
    assert world.submit(**notes)
    assert world.submit(map={"n": list(range(5000))})  # many, but each is small
    answer = world.client.post("/jobs", json={**notes, "params": {"sizes": [1] * 200}})
    assert "of the largest item" in problem(answer, 413, "params-too-large")["detail"]
    several = {"task": "demo.paint", "map": [{"notes": {"a": "x" * 900}}, {"notes": {"a": "x" * 1000}}]}
    problem(world.client.post("/jobs", json=several), 413, "params-too-large")


def test_a_million_values_are_checked_in_a_fraction_of_a_second(world: World) -> None:
    sent = json.dumps({"task": "demo.nothing", "map": {"n": list(range(MILLION))}}).encode()
    with world.store.read() as connection:
        shelf = published.find(connection, ["demo.nothing"])
    limits = submissions.Limits(max_params_bytes=1 << 20, max_items=MILLION)
    before = time.process_time()  # of this process alone: the machine may be busy
    asked = body.parse(sent)
    (new,) = submissions.checked([asked], shelf, single=True, limits=limits, now=utc_now())
    assert time.process_time() - before < 3  # some 0.4 s when nothing else runs
    assert new.map is not None
    assert new.map.item_count == MILLION


def test_the_most_items_are_a_setting(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_items=4)
    assert world.submit(map={"n": [1, 2, 3, 4]})
    assert flaws(world, map={"n": [1] * 5}) == {
        "#/map": "has 5 items, max_items is 4: make several jobs of them"
    }
    assert flaws(world, map=[{}] * 5).keys() == {"#/map"}
    assert flaws(world, task="demo.train", map={"epochs": [1, 2], "dataset": ["a", "b", "c"]}).keys() == {
        "#/map"
    }
    world.close()
