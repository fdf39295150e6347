"""Map jobs on the wire, and with a dispatcher that runs them."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jobrunner.clock import utc_now
from jobrunner.store import tokens
from jobrunner.store.tokens import Scope
from tests.api import fuzzed_tasks, mapped_tasks
from tests.api.serving import served
from tests.api.world import World
from tests.cli.running import serving
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
LARGE = "x" * 500_000
LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture
def large(world: World) -> int:
    """A map job whose result does not fit between a server and a client that does not read."""
    return world.mapped(*[LARGE] * 32)


@pytest.mark.parametrize(("path", "headers"), [("result", {}), ("result", LINES), ("items", LINES)])
def test_a_client_notices_that_the_job_was_deleted_before_it_had_all(
    world: World, large: int, path: str, headers: dict[str, str]
) -> None:
    with served(world.settings.data) as server, contextlib.closing(server.connect()) as connection:
        connection.request("GET", f"/jobs/{large}/{path}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert len(answer.read(len(LARGE))) == len(LARGE)
        assert server.ask("DELETE", f"/jobs/{large}")[0] == 204
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        assert "Traceback" not in server.said
        assert f"there is no job {large}" in server.said


def test_a_token_that_is_revoked_is_told_no_more(world: World, large: int) -> None:
    with world.store.write(durable=True) as connection:
        token = tokens.create(connection, "reader", Scope.READ, now=utc_now())
    with served(world.settings.data) as server, contextlib.closing(server.connect()) as client:
        client.request("GET", f"/jobs/{large}/result", headers={"Authorization": f"Bearer {token}"})
        answer = client.getresponse()
        assert answer.status == 200
        with world.store.write(durable=True) as connection:
            tokens.revoke(connection, "reader", now=utc_now())

        def is_refused() -> bool:  # the service looks for tokens once a second
            with contextlib.closing(server.connect()) as other:
                other.request("GET", "/jobs", headers={"Authorization": f"Bearer {token}"})
                return other.getresponse().status == 401

        eventually(is_refused)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()


# -- with a dispatcher ----------------------------------------------------------------------------


class Asked:
    """A service that is asked."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def text(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Return the status and the body of the answer."""
        sent = {"Content-Type": "application/json", **headers} if body is not None else headers
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=60)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        status, told = self.text(method, path, body, **headers)
        assert status < 300, told
        return json.loads(told)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("served")
    tasks = [f"--tasks={module.__name__}" for module in (fuzzed_tasks, mapped_tasks)]
    with serving(folder, *tasks, path=ROOT) as running:
        yield Asked(running.wait_until_ready().url)


def test_a_product_is_run_reduced_and_told_item_by_item(ask: Asked) -> None:
    said = {
        "task": "measure",
        "map": {"n": {"range": [1, 4]}, "unit": ["m", "s"]},
        "params": {"names": ["a"]},
        "reduce": {"task": "total", "params": {"scale": 10}},
    }
    job = ask("POST", "/jobs", said, Prefer="wait=30")
    assert (job["state"], job["result"], job["map"]["done"], job["partials"]) == ("succeeded", 60, 6, 6)
    assert ask("GET", f"/jobs/{job['id']}/result") == 60
    items = ask("GET", f"/jobs/{job['id']}/items")["items"]
    assert [one["params"] for one in items] == [{"n": n, "unit": unit} for n in (1, 2, 3) for unit in "ms"]
    assert [one["value"] for one in items] == [one["params"] for one in items]


def test_thirty_thousand_values_come_in_order(ask: Asked) -> None:
    said = {"task": "double", "map": {"n": {"range": [0, 30_000]}}}
    job = ask("POST", "/jobs", said, Prefer="wait=60")
    assert (job["state"], job["map"]["done"]) == ("succeeded", 30_000)
    wanted = [2 * n for n in range(30_000)]
    assert ask("GET", f"/jobs/{job['id']}/result") == wanted
    _, told = ask.text("GET", f"/jobs/{job['id']}/result", **LINES)
    assert list(map(int, told.split())) == wanted
    _, told = ask.text("GET", f"/jobs/{job['id']}/partials", **LINES)
    partials = list(map(json.loads, told.splitlines()))
    assert {one["index"]: one["value"] for one in partials} == dict(enumerate(wanted))
    assert [one["seq"] for one in partials] == sorted({one["seq"] for one in partials})
    assert len(partials) == 30_000
    _, told = ask.text("GET", f"/jobs/{job['id']}/items", **LINES)
    assert [one["value"] for one in map(json.loads, told.splitlines())] == wanted


def test_an_item_that_fails_is_told_and_runs_again_alone(ask: Asked, tmp_path: Path) -> None:
    said = {"task": "need", "map": {"path": [str(tmp_path), str(tmp_path / "later")]}}
    job = ask("POST", "/jobs", said, Prefer="wait=30")
    assert (job["state"], job["map"]["done"], job["map"]["failed"]) == ("failed", 1, 1)
    assert "1 of 2 items failed, the first is item 1" in job["error"]["message"]
    (failed,) = ask("GET", f"/jobs/{job['id']}/items?state=failed")["items"]
    assert (failed["index"], failed["error"]["type"]) == (1, "FileNotFoundError")
    (tmp_path / "later").touch()
    again = ask("POST", f"/jobs/{job['id']}/retry", {"only": "failed"})
    assert (again["map"]["done"], again["map"]["failed"]) == (1, 0)
    assert ask("GET", f"/jobs/{job['id']}/result?wait=30") == [1, 2]
    assert [one["attempt"] for one in ask("GET", f"/jobs/{job['id']}/items")["items"]] == [1, 2]
