"""The description of the API: it is valid, it is complete, and the API keeps to it."""

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from jobrunner.api import gunicorn_worker, openapi, operations, problems, refusals
from jobrunner.clock import utc_now
from jobrunner.store import tokens
from jobrunner.store.tokens import Scope
from tests.api.world import World, description


@pytest.fixture
def document(world: World) -> Any:
    answer = world.client.get("/openapi.json")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_the_document_is_valid(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_described_and_nothing_else(world: World, document: Any) -> None:
    endpoints = {rule.endpoint for rule in world.app.url_map.iter_rules()}
    assert operations.OPERATIONS.keys() == endpoints
    listed = {(one["method"], one["path"]) for one in world.client.get("/").get_json()["endpoints"]}
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == listed
    assert all(one["summary"] for one in described_operations(document))


def described_operations(document: Any) -> list[Any]:
    return [operation for item in document["paths"].values() for operation in item.values()]


#: what no operation causes, but a method that a path does not take
ELSEWHERE = {refusals.MethodNotAllowedError}


def test_every_problem_is_described_where_it_may_occur() -> None:
    named = {kind for one in operations.OPERATIONS.values() for kind in one.refuses}
    named |= {*operations.ALWAYS, *operations.WITH_SCOPE, *operations.WITH_BODY}
    assert problems.STATUS.keys() - named == ELSEWHERE


def test_what_is_refused_unread_is_described_everywhere(document: Any) -> None:
    assert openapi.UNREAD.keys() == set(gunicorn_worker._STATUS.values())
    unread = {str(status.value) for status in openapi.UNREAD}
    for operation in described_operations(document):
        assert unread <= operation["responses"].keys()


def test_every_header_of_an_answer_is_described_somewhere(document: Any) -> None:
    described = {
        name
        for operation in described_operations(document)
        for response in operation["responses"].values()
        for name in response.get("headers", {})
    }
    assert described == {
        *("Location", "Retry-After", "ETag", "Link", "Idempotency-Replayed", "Preference-Applied"),
        "WWW-Authenticate",
    }


def test_who_may_is_described_as_it_is(world: World, document: Any) -> None:
    submit = document["paths"]["/jobs"]["post"]
    assert submit["security"] == [{}, {"bearer": ["submit"]}]
    assert submit["responses"]["401"]["headers"]["WWW-Authenticate"]["required"]
    assert "403" in submit["responses"]
    alive = document["paths"]["/livez"]["get"]
    assert alive["security"] == []
    assert not {"401", "403"} & alive["responses"].keys()
    with world.store.write(durable=True) as connection:
        token = tokens.create(connection, "reader", Scope.READ, now=utc_now())
    world.app.keyring.lock()
    headers = {"Authorization": f"Bearer {token}"}
    locked = world.client.get("/openapi.json", headers=headers).get_json()
    assert locked["paths"]["/jobs"]["post"]["security"] == [{"bearer": ["submit"]}]
    assert locked["paths"]["/livez"]["get"]["security"] == []


def test_each_link_leads_to_an_operation_with_the_parameter_it_gives(document: Any) -> None:
    known = {one["operationId"]: one for one in described_operations(document)}
    assert len(known) == len(described_operations(document))
    links = [
        link
        for operation in known.values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert len(links) >= 9
    for link in links:
        names = {one["name"] for one in known[link["operationId"]]["parameters"]}
        assert link["parameters"].keys() <= names


def primes(n: int = 1) -> None:
    """Find them."""


def of_map_job(world: World) -> int:
    """Return a map job that can be retried."""
    job_id = world.submit("examples.primes", map={"n": [1, 2]})
    assert world.client.post(f"/jobs/{job_id}/cancel").status_code == 200
    return job_id


def test_every_example_is_accepted(world: World, document: Any) -> None:
    world.publish([description("examples.primes", primes)])
    for path, item in document["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {})
            assert all("example" in media for media in content.values()), path
            for media in content.values():
                job_id = of_map_job(world) if path.endswith("/retry") else world.submit("examples.primes")
                where = path.format(job_id=job_id, name="default")
                answer = world.client.open(where, method=method, json=media["example"])
                assert answer.status_code < 300, (where, answer.text)


def test_a_submission_is_described_with_its_limits(document: Any) -> None:
    body = document["components"]["schemas"]["Submission"]
    assert body["required"] == ["task"]
    assert body["additionalProperties"] is False
    retries = body["properties"]["retries"]
    assert (retries["type"], retries["minimum"], retries["maximum"]) == ("integer", 0, 1_000_000)
    assert body["properties"]["timeout"]["anyOf"][1] == {"type": "null"}


def test_answers_say_what_is_a_moment(document: Any) -> None:
    job = document["components"]["schemas"]["Job"]["properties"]
    assert job["created_at"] == {"type": "string", "format": "date-time"}
    assert job["finished_at"]["anyOf"][0] == {"type": "string", "format": "date-time"}


def test_no_parameter_of_a_query_may_be_null_which_a_query_cannot_say(document: Any) -> None:
    told = [one for operation in described_operations(document) for one in operation["parameters"]]
    assert len(told) > 30
    assert "null" not in json.dumps([one["schema"] for one in told])
