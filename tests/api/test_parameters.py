"""Parameters are held against the schema that the task's dispatcher has published."""

from typing import Any

import pytest

from tests.api.world import OFFERED, World, description, pointers, problem

JOB = {"task": "demo.nothing"}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"colour": "blue"},
        {"where": None},
        {"where": {"x": 1}},
        {"where": {"x": 1.5, "y": 2}},
        {"when": "2030-01-01T00:00:00Z", "sizes": []},
        {"sizes": [1, 2**70], "notes": {"anything": [1, {"goes": None}]}},
    ],
)
def test_parameters_that_fit_are_accepted(world: World, params: dict[str, Any]) -> None:
    assert world.show(world.submit("demo.paint", params=params))["params"] == params


@pytest.mark.parametrize(
    ("task", "params", "errors"),
    [
        ("demo.train", {}, {"#/params/dataset": "is required"}),
        ("demo.train", {"dataset": 1}, {"#/params/dataset": "must be of type string"}),
        (
            "demo.train",
            {"dataset": "d", "epochs": 0},
            {"#/params/epochs": "is less than the minimum of 1"},
        ),
        ("demo.train", {"dataset": "d", "epochs": True}, {"#/params/epochs": "must be of type integer"}),
        ("demo.train", {"dataset": "d", "epochs": "5"}, {"#/params/epochs": "must be of type integer"}),
        (
            "demo.train",
            {"dataset": "d", "a/b": 1, "é": 2},
            {"#/params/a~1b": "is not a parameter", "#/params/%C3%A9": "is not a parameter"},
        ),
        ("demo.paint", {"colour": "green"}, {"#/params/colour": 'is not one of "blue" or "red"'}),
        ("demo.paint", {"where": {"y": 1}}, {"#/params/where/x": "is required"}),
        ("demo.paint", {"where": 5}, {"#/params/where": "must be of type"}),
        ("demo.paint", {"where": {"x": "far"}}, {"#/params/where/x": "must be of type number"}),
        ("demo.paint", {"when": "2030-01-01T00:00:00"}, {"#/params/when": 'is not a "date-time"'}),
        ("demo.paint", {"when": 5}, {"#/params/when": "must be of type"}),
        (
            "demo.paint",
            {"sizes": [1, "two", None]},
            {"#/params/sizes/1": "must be of type integer", "#/params/sizes/2": "must be of type integer"},
        ),
        ("demo.paint", {"sizes": "many"}, {"#/params/sizes": "must be of type"}),
    ],
)
def test_parameters_that_do_not_fit_are_422_with_their_pointers(
    world: World, task: str, params: dict[str, Any], errors: dict[str, str]
) -> None:
    answer = world.client.post("/jobs", json={"task": task, "params": params})
    told = problem(answer, 422, "invalid-fields")
    assert {one["pointer"] for one in told["errors"]} == errors.keys()
    for one in told["errors"]:
        assert one["detail"].startswith(errors[one["pointer"]])
    assert world.count() == 0


def test_a_large_value_is_not_sent_back_in_the_explanation(world: World) -> None:
    answer = world.client.post("/jobs", json={"task": "demo.train", "params": {"dataset": ["x" * 100_000]}})
    assert len(answer.data) < 1000


def test_a_value_of_one_of_several_types_is_told_what_is_wrong_with_it_as_that(world: World) -> None:
    def either(value: list[int] | dict[str, int]) -> None:
        """Take one or the other."""

    world.publish([description("demo.either", either)])
    for value, where in (
        (["a"], "#/params/value/0"),
        ({"b": "a"}, "#/params/value/b"),
        ("a", "#/params/value"),
    ):
        answer = world.client.post("/jobs", json={"task": "demo.either", "params": {"value": value}})
        assert pointers(problem(answer, 422, "invalid-fields")) == [where]
    world.submit("demo.either", params={"value": [1]})


def test_a_value_that_could_have_become_several_forms_is_told_that_it_fits_none(world: World) -> None:
    forms = {"anyOf": [{"type": "string", "maxLength": 1}, {"type": "string", "pattern": "^a+$"}]}
    told = {"name": "demo.forms", "doc": "", "params": {"properties": {"value": forms}}, "options": {}}
    world.publish([told])
    answer = world.client.post("/jobs", json={"task": "demo.forms", "params": {"value": "bb"}})
    assert problem(answer, 422, "invalid-fields")["errors"] == [
        {"pointer": "#/params/value", "detail": "fits none of the forms that it may have"}
    ]


def test_a_task_that_is_published_anew_is_held_against_its_new_schema(world: World) -> None:
    def nothing(n: str) -> None:
        """Take something else than before."""

    world.submit("demo.nothing", params={"n": 1})
    world.publish([description("demo.nothing", nothing)])
    answer = world.client.post("/jobs", json={"task": "demo.nothing", "params": {"n": 1}})
    assert pointers(problem(answer, 422, "invalid-fields")) == ["#/params/n"]
    world.submit("demo.nothing", params={"n": "one"})


@pytest.mark.parametrize(("path", "body"), [("/jobs", JOB), ("/jobs/batch", [JOB, JOB])])
def test_before_any_task_is_published_a_job_is_to_be_sent_later(world: World, path: str, body: Any) -> None:
    world.publish([])
    answer = world.client.post(path, json=body)
    told = problem(answer, 503, "no-tasks")
    assert "is one running" in told["detail"]
    assert answer.headers["Retry-After"] == "2"
    assert world.count() == 0
    world.publish(OFFERED)
    assert world.client.post(path, json=body).status_code == 202


def test_before_any_task_is_published_what_is_wrong_for_ever_is_told(world: World) -> None:
    world.publish([])
    told = problem(world.client.post("/jobs", json={**JOB, "retries": -1}), 422, "invalid-fields")
    assert "#/retries" in pointers(told)


def test_of_very_many_values_the_first_flaws_are_told(world: World) -> None:
    for sizes, said in (
        (["x", *range(30_000)], "#/params/sizes/0: must be of type integer"),
        ([*range(30_000), "x"], "#/params: has something wrong in it, beyond its first 20000 values"),
    ):
        body = {"task": "demo.paint", "params": {"sizes": sizes, "colour": "red"}}
        told = problem(world.client.post("/jobs", json=body), 422, "invalid-fields")
        assert told["detail"] == said
    body = {"task": "demo.train", "params": {"epochs": 0, "more": [*range(30_000)], "dataset": "d"}}
    told = problem(world.client.post("/jobs", json=body), 422, "invalid-fields")
    assert set(pointers(told)) == {"#/params/epochs", "#/params/more"}
