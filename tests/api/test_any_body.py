"""Whatever is sent: never a 5xx, and nothing is stored unless it was accepted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.world import World, made_in

NAMES = st.sampled_from(
    [
        *("task", "params", "priority", "queue", "run_at", "delay_seconds", "timeout", "retries"),
        *("crash_retries", "memory_limit", "labels", "foo"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["demo.nothing", "demo.paint", "demo.train", "2G", "2030-01-01T00:00:00Z", "\0", "\ud800"]
    ),
)
NUMBERS = st.one_of(
    st.integers(), st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([10**400, 2**63, -1, 0, 1])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(TEXTS, st.sampled_from(["n", "colour", "where", "when", "sizes", "notes", "x"])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
JOBS = st.one_of(
    VALUES,
    st.dictionaries(NAMES, VALUES, max_size=5),
    st.fixed_dictionaries(
        {"task": st.sampled_from(["demo.nothing", "demo.paint", "demo.train"])},
        optional={
            "params": st.dictionaries(
                st.sampled_from(["n", "colour", "where", "when", "sizes", "notes"]), VALUES, max_size=3
            ),
            "priority": NUMBERS,
            "timeout": st.one_of(st.none(), NUMBERS),
            "delay_seconds": NUMBERS,
            "memory_limit": st.one_of(TEXTS, NUMBERS),
            "labels": st.dictionaries(TEXTS, TEXTS, max_size=3),
            "run_at": st.datetimes(timezones=st.timezones() | st.none()).map(lambda at: at.isoformat()),
        },
    ),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = made_in(tmp_path_factory.mktemp("any"), max_body_bytes=64 << 10, max_params_bytes=4 << 10)
    yield world
    world.close()


def send(world: World, body: bytes, path: str = "/jobs") -> None:
    before = world.count()
    answer = world.client.post(path, data=body, content_type="application/json")
    assert answer.status_code in (202, 400, 413, 422), answer.text
    stored = world.count() - before
    if answer.status_code != 202:
        assert answer.content_type == "application/problem+json"
        assert stored == 0
    elif path == "/jobs":
        assert stored == 1
        assert world.show(answer.get_json()["id"])["task"] == json.loads(body)["task"]
    else:
        assert stored == len(answer.get_json()["ids"])


quietly = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@quietly
@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
)
def test_any_bytes(shared: World, body: bytes) -> None:
    send(shared, body)


@quietly
@given(JOBS)
def test_any_json(shared: World, value: Any) -> None:
    send(shared, json.dumps(value).encode())


@quietly
@given(st.lists(JOBS, max_size=4))
def test_any_batch(shared: World, value: list[Any]) -> None:
    send(shared, json.dumps(value).encode(), "/jobs/batch")


@quietly
@given(JOBS.map(json.dumps), st.integers(0, 300), st.binary(max_size=4))
def test_any_json_with_a_hole_in_it(shared: World, text: str, place: int, instead: bytes) -> None:
    data = text.encode()
    send(shared, data[:place] + instead + data[place + 1 :])


@quietly
@given(VALUES)
def test_any_parameters_come_back_as_they_were_sent(shared: World, value: Any) -> None:
    body = json.dumps({"task": "demo.paint", "params": {"notes": {"value": value}}}).encode()
    answer = shared.client.post("/jobs", data=body, content_type="application/json")
    if answer.status_code == 202:
        kept = shared.show(answer.get_json()["id"])["params"]["notes"]["value"]
        assert json.dumps(kept) == json.dumps(value)


@quietly
@given(
    st.dictionaries(
        st.sampled_from(["state", "limit", "after", "label", "task", "created_after", "x"]), TEXTS
    )
)
def test_any_query(shared: World, query: dict[str, str]) -> None:
    clean = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
    assert shared.client.get("/jobs", query_string=clean).status_code in (200, 400)
