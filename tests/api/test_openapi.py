"""The description of the API: it is valid, it is complete, and the API keeps to it."""

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from jobrunner.api import operations, problems, refusals
from tests.api.world import World


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
    assert all(operation["summary"] for item in document["paths"].values() for operation in item.values())


#: what no route causes, but a path, a method or a server that is none of ours
ELSEWHERE = {refusals.MethodNotAllowedError}


def test_every_problem_is_described_where_it_may_occur() -> None:
    named = {kind for one in operations.OPERATIONS.values() for kind in one.refuses}
    named |= {*operations.ALWAYS, *operations.WITH_BODY}
    general = {
        kind for kind in problems.STATUS if any(issubclass(one, kind) and one is not kind for one in named)
    }
    assert problems.STATUS.keys() - named - general == ELSEWHERE


def test_a_submission_is_described_with_its_limits(document: Any) -> None:
    body = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["task"]
    assert body["additionalProperties"] is False
    assert body["properties"]["retries"] == {"type": "integer", "minimum": 0, "maximum": 1_000_000}
    assert body["properties"]["timeout"]["anyOf"][1] == {"type": "null"}


def test_answers_say_what_is_a_moment(document: Any) -> None:
    job = document["components"]["schemas"]["Job"]["properties"]
    assert job["created_at"] == {"type": "string", "format": "date-time"}
    assert job["finished_at"]["anyOf"][0] == {"type": "string", "format": "date-time"}
