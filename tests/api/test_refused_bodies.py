"""Every body that is refused: with which status, as which problem, and that nothing is stored."""

import json
from typing import Any

import pytest

from jobrunner.api.pointers import MAX_ERRORS
from tests.api.world import World, pointers, problem

DEEP = 64


def nested(depth: int) -> Any:
    """Return lists inside each other, `depth` of them."""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def refuse(world: World, body: bytes, status: int, slug: str) -> Any:
    """Return the problem that POST /jobs answers; a batch of it must be refused too, and nothing stored."""
    batched = world.client.post("/jobs/batch", data=b"[" + body + b"]", content_type="application/json")
    assert batched.status_code == status
    alone = world.client.post("/jobs", data=body, content_type="application/json")
    assert world.count() == 0
    return problem(alone, status, slug)


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b'{"task": "demo.nothing"',
        b'{"task": "demo.nothing",}',
        b"{'task': 'demo.nothing'}",
        b'{"task": "demo.nothing"} trailing',
        b'\xef\xbb\xbf{"task": "demo.nothing"}',
        b'{"task": "demo.\xff"}',
        '{"task": "demo.nothing"}'.encode("utf-16"),
        b'{"task": "demo.nothing", "params": {"n": NaN}}',
        b'{"task": "demo.nothing", "params": {"n": Infinity}}',
        b'{"task": "demo.nothing", "params": {"n": -Infinity}}',
        b'{"task": "demo.nothing", "params": {"n": 01}}',
        b'{"task": "demo\nnothing"}',
        b'{"task": "demo\x00nothing"}',
        b'{"task": "\\ud83d\\u12"}',
    ],
)
def test_what_is_not_json_is_400(world: World, body: bytes) -> None:
    assert refuse(world, body, 400, "not-json")["detail"]


def test_no_body_at_all_is_not_json(world: World) -> None:
    for path in ("/jobs", "/jobs/batch"):
        problem(world.client.post(path, content_type="application/json"), 400, "not-json")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"task": "demo.nothing", "task": "demo.paint"}', '"task"'),
        (b'{"task": "demo.nothing", "params": {"n": 1, "n": 1}}', '"n"'),
        (b'{"task": "demo.nothing", "\\ud800": 1, "\\ud800": 1}', '"\\ud800"'),
        (b'{"task": "demo.nothing", "params": {"n": 1e999}}', "1e999"),
        (b'{"task": "demo.nothing", "timeout": -1e999}', "-1e999"),
        (b'{"task": "demo.nothing", "params": {"n": ' + b"9" * 5000 + b"}}", "4300 digits"),
        (
            b'{"task": "demo.paint", "params": {"notes": {"a": ' + b"[" * DEEP + b"]" * DEEP + b"}}}",
            "64 deep",
        ),
        (b'{"task": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "64 deep"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "64 deep"),
    ],
)
def test_json_that_cannot_be_kept_or_means_two_things_is_400(world: World, body: bytes, says: str) -> None:
    assert says in refuse(world, body, 400, "invalid-request")["detail"]


def test_the_deepest_body_that_is_allowed_is_accepted(world: World) -> None:
    notes = {"a": nested(DEEP - 3)}  # inside the body, `params` and `notes`
    assert world.show(world.submit("demo.paint", params={"notes": notes}))["params"]["notes"] == notes
    answer = world.client.post(
        "/jobs", json={"task": "demo.paint", "params": {"notes": {"a": nested(DEEP - 2)}}}
    )
    problem(answer, 400, "invalid-request")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (rb'{"task": "demo.paint", "params": {"notes": {"a": ["x", "\u0000"]}}}', ["#/params/notes/a/1"]),
        (rb'{"task": "demo.paint", "params": {"notes": {"\u0000": 1}}}', ["#/params/notes/%EF%BF%BD"]),
        (rb'{"task": "demo.paint", "params": {"notes": {"a": "\ud800"}}}', ["#/params/notes/a"]),
        (rb'{"task": "demo.paint", "params": {"notes": {"a": "\uDE00\uD83D"}}}', ["#/params/notes/a"]),
        (rb'{"task": "\ud800", "queue": "\u0000"}', ["#/task", "#/queue"]),
        (rb'"\u0000"', ["#"]),
    ],
)
def test_text_that_cannot_be_kept_is_422_with_its_place(world: World, body: bytes, where: list[str]) -> None:
    assert pointers(refuse(world, body, 422, "invalid-fields")) == where


@pytest.mark.parametrize("body", [b"null", b"1", b'"demo.nothing"', b"[]", b"true"])
def test_a_job_must_be_an_object(world: World, body: bytes) -> None:
    told = refuse(world, body, 422, "invalid-fields")
    assert told["errors"] == [{"pointer": "#", "detail": "must be an object"}]


BAD: dict[str, list[Any]] = {
    "task": [1, None, "", "x" * 201, ["demo.nothing"], "demo\tnothing", "a\x85b"],
    "params": [None, [], "x", 1],
    "priority": [None, True, "1", 1.5, 1_000_001, -1_000_001, 2**64, 10**400],
    "queue": [None, "", "x" * 101, 5, "a\nb"],
    "timeout": [0, -1, "5", True, 1e10, 10**400],
    "retries": [-1, 1.5, None, False, 2**31],
    "crash_retries": [-1, 1.5, None, False, 2**31],
    "memory_limit": [0, 1023, "much", "1X", -5, True, 1.5, 2**63, "999999999999999T", [], "1\n2M"],
    "delay_seconds": [-1, "5", True, 1e12, []],
    "run_at": [
        "2030-01-01T00:00:00",
        "2030-01-01",
        "2030-01-01 00:00:00Z",
        "tomorrow",
        "2030-W01-1T00:00:00Z",
        "20300101T000000Z",
        "2030-13-01T00:00:00Z",
        "2030-02-30T00:00:00Z",
        "2030-01-01T24:30:00Z",
        "2030-01-01T00:00:60Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2030-01-01T00:00:00+24:00",
        "2030-01-01T00:00:00+2",
        "\u0662\u0660\u0663\u0660-01-01T00:00:00Z",
        "2030-01-01T00:00:00Z\n",
        1893456000,
        True,
    ],
    "labels": [None, [], "x", {f"k{n}": "" for n in range(21)}],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD.items() for value in values]
)
def test_a_bad_field_is_422_with_its_pointer(world: World, field: str, value: Any) -> None:
    body = {"task": "demo.nothing", field: value}
    told = refuse(world, json.dumps(body).encode(), 422, "invalid-fields")
    assert pointers(told) == [f"#/{field}"]


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        ({"": "x"}, "#/labels/"),
        ({"a b": "x"}, "#/labels/a%20b"),
        ({"a/b~c": "x"}, "#/labels/a~1b~0c"),
        ({"é": "x"}, "#/labels/%C3%A9"),
        ({"k" * 101: "x"}, f"#/labels/{'k' * 101}"),
        ({"a\n": "x"}, "#/labels/a%0A"),
        ({"a": 1}, "#/labels/a"),
        ({"a": None}, "#/labels/a"),
        ({"a": "x" * 201}, "#/labels/a"),
        ({"a": "x\ny"}, "#/labels/a"),
        ({"_schema": 1}, "#/labels/_schema"),
    ],
)
def test_a_bad_label_is_422_with_its_pointer(world: World, labels: dict[str, Any], where: str) -> None:
    body = {"task": "demo.nothing", "labels": {"fine": "yes", **labels}}
    assert pointers(refuse(world, json.dumps(body).encode(), 422, "invalid-fields")) == [where]


@pytest.mark.parametrize("name", ["foo", "Task", "_schema", "id", "a/b", "", "0"])
def test_an_unknown_field_is_422_and_the_known_ones_are_named(world: World, name: str) -> None:
    told = refuse(world, json.dumps({"task": "demo.nothing", name: 1}).encode(), 422, "invalid-fields")
    assert pointers(told) == [f"#/{name.replace('/', '~1')}"]
    assert "delay_seconds" in told["errors"][0]["detail"]


def test_a_missing_task_is_422(world: World) -> None:
    told = refuse(world, b"{}", 422, "invalid-fields")
    assert told["errors"] == [{"pointer": "#/task", "detail": "is required"}]


def test_run_at_and_delay_seconds_exclude_each_other(world: World) -> None:
    body = {"task": "demo.nothing", "run_at": "2030-01-01T00:00:00Z", "delay_seconds": 5}
    told = refuse(world, json.dumps(body).encode(), 422, "invalid-fields")
    assert pointers(told) == ["#/delay_seconds"]
    assert "run_at" in told["errors"][0]["detail"]


def test_an_unknown_task_is_422_and_the_known_ones_are_named(world: World) -> None:
    told = problem(world.client.post("/jobs", json={"task": "demo.nothin"}), 422, "unknown-task")
    assert pointers(told) == ["#/task"]
    assert "demo.nothing, demo.paint, demo.train" in told["detail"]
    assert world.count() == 0


def test_all_flaws_are_told_at_once(world: World) -> None:
    body = {"task": "demo.train", "priority": "high", "params": {"epochs": 0, "speed": 1}, "colour": "red"}
    told = refuse(world, json.dumps(body).encode(), 422, "invalid-fields")
    assert set(pointers(told)) == {
        "#/priority",
        "#/colour",
        "#/params/dataset",
        "#/params/epochs",
        "#/params/speed",
    }


def test_an_unknown_task_is_told_beside_other_flaws(world: World) -> None:
    told = refuse(world, b'{"task": "no.such", "priority": "high"}', 422, "invalid-fields")
    assert set(pointers(told)) == {"#/task", "#/priority"}


def test_the_list_of_flaws_has_an_end(world: World) -> None:
    body = {"task": "demo.paint", "params": {"sizes": ["x"] * 10_000}} | {f"f{n}": 1 for n in range(200)}
    assert len(refuse(world, json.dumps(body).encode(), 422, "invalid-fields")["errors"]) == MAX_ERRORS


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "without a Content-Type"),
        ({"Content-Type": "text/plain"}, "text/plain"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "form-urlencoded"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, "multipart/form-data"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "uncompressed"),
        ({"Content-Type": "json"}, "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/jobs", "/jobs/batch"])
def test_a_body_that_is_not_sent_as_json_is_415_with_the_remedy(
    world: World, path: str, headers: dict[str, str], says: str
) -> None:
    answer = world.client.post(path, data=b'{"task": "demo.nothing"}', headers=headers)
    assert says in problem(answer, 415, "unsupported-media-type")["detail"]
    assert world.count() == 0
