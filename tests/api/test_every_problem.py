"""Each problem that an answer may name is reached, over HTTP, by a request that anybody could make."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from jobrunner import errors
from jobrunner.api import problems, refusals
from jobrunner.api.intake import MAX_QUEUES
from jobrunner.clock import utc_now
from jobrunner.errors import JobrunnerError
from jobrunner.store import jobs, moves, tokens
from jobrunner.store.jobs import NewJob
from jobrunner.store.tokens import Scope
from tests.api.serving import Server, served
from tests.api.world import OFFERED, World, made_in

MAX_QUEUED = MAX_QUEUES + 100
ALL_QUEUES = ["default", *(f"q{number}" for number in range(1, MAX_QUEUES))]
LIMITS: dict[str, Any] = {
    "max_body_bytes": 4096,
    "max_params_bytes": 1024,
    "max_batch": 3,
    "max_queued": MAX_QUEUED,
    "max_waiting": 1,
    "api_threads": 4,
}
JOB = {"task": "demo.nothing"}


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    problem: Any


def asked(
    server: Server, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Ask; a body that is not bytes goes as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if data is None else {"Content-Type": "application/json"}
    with contextlib.closing(server.connect()) as connection:
        connection.request(method, path, data, {**kind, **(headers or {})})
        return read(connection.getresponse())


def read(answer: http.client.HTTPResponse) -> Answer:
    headers = {name.title(): value for name, value in answer.getheaders()}
    assert headers.get("Content-Type") == "application/problem+json", (answer.status, headers)
    return Answer(answer.status, headers, json.loads(answer.read()))


class Scene:
    """A service with small limits that everybody may use, and others that are less kind."""

    def __init__(self, folder: Path, exits: contextlib.ExitStack) -> None:
        self._folder, self._exits = folder, exits
        self.world = made_in(self._made("open"), **LIMITS)
        exits.callback(self.world.close)
        self.server = exits.enter_context(served(self.world.settings.data, **LIMITS))

    def _made(self, name: str) -> Path:
        made = self._folder / name
        made.mkdir()
        return made

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asked(self.server, method, path, body, named)

    @cached_property
    def _locked(self) -> tuple[Server, str]:
        """A service that needs a token, and one that is good for reading alone."""
        world = made_in(self._made("locked"))
        with world.store.write(durable=True) as connection:
            made = tokens.create(connection, "reader", Scope.READ, now=utc_now())
        world.close()
        return self._exits.enter_context(served(world.settings.data)), made

    def submit_locked(self, authorization: str | None) -> Answer:
        """Submit with these words; `{}` in them is the token of a reader."""
        server, token = self._locked
        headers = {} if authorization is None else {"Authorization": authorization.format(token)}
        return asked(server, "POST", "/jobs", JOB, headers)

    def ask_without_store(self) -> Answer:
        directory = self._made("nothing")
        with served(directory) as server:  # which has not looked into its store yet
            (directory / "jobrunner.db").rename(directory / "elsewhere")
            return asked(server, "GET", "/jobs")

    def ask_while_store_is_away(self) -> Answer:
        self.world.show(self.world.submit())
        assert self.server.ask("GET", "/jobs")[0] == 200
        there, away = (self.world.settings.data / name for name in ("jobrunner.db", "away"))
        there.rename(away)
        try:
            return self.ask("GET", "/jobs")
        finally:
            away.rename(there)

    def submit_beside(self, queues: Iterable[str]) -> Answer:
        """Submit into a queue of its own while these have a job each."""
        with self.world.store.write(durable=False) as connection:
            new = [NewJob("demo.nothing", "{}", queue=queue) for queue in queues]
            ids = jobs.submit(connection, new, now=utc_now())
        try:
            return self.ask("POST", "/jobs", {**JOB, "queue": "another"})
        finally:
            with self.world.store.write(durable=False) as connection:
                moves.cancel_queued(connection, ids, now=utc_now())

    def submit_without_tasks(self) -> Answer:
        self.world.publish([])
        try:
            return self.ask("POST", "/jobs", JOB)
        finally:
            self.world.publish(OFFERED)

    def ask_beside_a_stream(self) -> Answer:
        path = f"/jobs/{self.world.submit()}/events"
        with contextlib.closing(self.server.connect()) as connection:
            connection.request("GET", path)
            assert connection.getresponse().status == 200
            return self.ask("GET", path)

    def send_slowly(self) -> Answer:
        """Be one of four clients that rest in the middle of their bodies: there is room for two."""
        head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        with contextlib.ExitStack() as opened:
            address = ("127.0.0.1", self.server.port)
            clients = [opened.enter_context(socket.create_connection(address, 20)) for _ in range(4)]
            for client in clients:
                client.sendall(head)
            return earliest([http.client.HTTPResponse(client) for client in clients])

    def submit_twice(self) -> Answer:
        self.world.client.post("/jobs", json=JOB, headers={"Idempotency-Key": "k"})
        return self.ask("POST", "/jobs", {**JOB, "priority": 1}, Idempotency_Key="k")

    def ask_silent_dispatcher(self) -> Answer:
        self.world.dispatcher_falls_silent()
        return self.ask("GET", "/readyz")

    def ask_something_broken(self) -> Answer:
        """Ask the application itself: nothing is known that would make the service fail from outside."""
        world = made_in(self._made("broken"))
        world.app.add_url_rule("/broken", view_func=fail)
        told = world.client.get("/broken")
        world.close()
        return Answer(told.status_code, dict(told.headers), told.get_json())


def fail() -> str:
    raise ZeroDivisionError


def earliest(answers: list[http.client.HTTPResponse]) -> Answer:
    """Return the first of these answers to come."""
    found: list[Answer] = []
    there = threading.Event()

    def wait(answer: http.client.HTTPResponse) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # the others, when all is closed
            answer.begin()
            found.append(read(answer))
            there.set()

    threads = [threading.Thread(target=wait, args=(one,), daemon=True) for one in answers]
    for thread in threads:
        thread.start()
    assert there.wait(20)
    return found[0]


# fmt: off
REACHED: Final[Mapping[type[JobrunnerError], Callable[[Scene], Answer]]] = {
    errors.InvalidRequestError:          lambda on: on.ask("POST", "/jobs", b'{"task": "a", "task": "b"}'),
    errors.NotJsonError:                 lambda on: on.ask("POST", "/jobs", b"{"),
    errors.InvalidCursorError:           lambda on: on.ask("GET", "/jobs?after=x"),
    refusals.InvalidQueryError:          lambda on: on.ask("GET", "/jobs?x=1"),
    refusals.InvalidIdempotencyKeyError: lambda on: on.ask("POST", "/jobs", JOB, Idempotency_Key=""),
    refusals.TokenMissingError:          lambda on: on.submit_locked(None),
    refusals.InvalidTokenError:          lambda on: on.submit_locked("Bearer guessed"),
    refusals.InsufficientScopeError:     lambda on: on.submit_locked("Bearer {}"),
    refusals.ForeignSiteError:           lambda on: on.ask("GET", "/jobs", Origin="http://evil.example"),
    refusals.PathNotFoundError:          lambda on: on.ask("GET", "/nothing"),
    errors.JobNotFoundError:             lambda on: on.ask("GET", "/jobs/999999999"),
    errors.TaskNotFoundError:            lambda on: on.ask("GET", "/tasks/nothing"),
    errors.QueueNotFoundError:           lambda on: on.ask("GET", "/queues/nothing"),
    refusals.AttemptNotFoundError:       lambda on: on.ask("GET", f"/jobs/{on.world.submit()}/log?attempt=9"),
    refusals.MethodNotAllowedError:      lambda on: on.ask("PUT", "/jobs"),
    refusals.BodyTooSlowError:           Scene.send_slowly,
    errors.WrongStateError:              lambda on: on.ask("POST", f"/jobs/{on.world.submit()}/retry"),
    refusals.AlreadyFinishedError:       lambda on: on.ask("POST", f"/jobs/{on.world.succeeded()}/cancel"),
    refusals.NoMapJobError:              lambda on: on.ask("GET", f"/jobs/{on.world.submit()}/items"),
    refusals.NotFinishedError:           lambda on: on.ask("GET", f"/jobs/{on.world.submit()}/result"),
    refusals.JobFailedError:             lambda on: on.ask("GET", f"/jobs/{on.world.failed()}/result"),
    refusals.BodyTooLargeError:          lambda on: on.ask("POST", "/jobs", b" " * 5000),
    refusals.ParamsTooLargeError:        lambda on: on.ask("POST", "/jobs", with_notes("x" * 2000)),
    refusals.BatchTooLargeError:         lambda on: on.ask("POST", "/jobs/batch", [JOB] * 4),
    refusals.UnsupportedMediaTypeError:  lambda on: on.ask("POST", "/jobs", b"{}", Content_Type="text/plain"),
    errors.InvalidFieldsError:           lambda on: on.ask("POST", "/jobs", {}),
    errors.UnknownTaskError:             lambda on: on.ask("POST", "/jobs", {"task": "nothing"}),
    errors.TooManyQueuesError:           lambda on: on.submit_beside(ALL_QUEUES),
    refusals.IdempotencyMismatchError:   Scene.submit_twice,
    refusals.InternalError:              Scene.ask_something_broken,
    errors.QueueFullError:               lambda on: on.submit_beside(["default"] * MAX_QUEUED),
    refusals.NoTasksError:               Scene.submit_without_tasks,
    errors.SchemaVersionError:           Scene.ask_without_store,
    errors.StoreUnavailableError:        Scene.ask_while_store_is_away,
    refusals.TooManyWaitingError:        Scene.ask_beside_a_stream,
    refusals.NotReadyError:              Scene.ask_silent_dispatcher,
}
# fmt: on


def with_notes(text: str) -> dict[str, Any]:
    return {"task": "demo.paint", "params": {"notes": {"text": text}}}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with contextlib.ExitStack() as exits:
        yield Scene(tmp_path_factory.mktemp("scene"), exits)


@pytest.mark.parametrize("kind", problems.STATUS, ids=problems.slug)
def test_it_is_reached_and_told_as_promised(scene: Scene, kind: type[JobrunnerError]) -> None:
    answer = REACHED[kind](scene)
    told = answer.problem
    assert told["type"] == f"/problems/{problems.slug(kind)}", told
    assert told["status"] == answer.status == problems.STATUS[kind]
    assert told["title"] == problems.title(kind)
    assert told["detail"]
    if kind in problems.RETRY_AFTER_SECONDS:
        assert answer.headers["Retry-After"] == str(problems.RETRY_AFTER_SECONDS[kind])
    if answer.status == 401:
        assert answer.headers["Www-Authenticate"].startswith("Bearer ")
    if answer.status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize("kind", problems.STATUS, ids=problems.slug)
def test_its_explanation_says_what_it_means_and_what_to_do(world: World, kind: type[JobrunnerError]) -> None:
    answer = world.client.get(f"/problems/{problems.slug(kind)}")
    meaning, *more = (paragraph for paragraph in answer.text.split("\n\n") if paragraph.strip())
    assert meaning.rstrip(".") == problems.title(kind)
    assert len(more) >= 2, "its docstring has no more than a title"
    assert more[-1].startswith(f"HTTP status: {problems.STATUS[kind].value} ")
