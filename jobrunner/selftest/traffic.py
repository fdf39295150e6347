"""The traffic: what people do to the API, from several threads at once, written down as it is answered."""

import http.client
import json
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from jobrunner.errors import JobrunnerError
from jobrunner.lifecycle import FINAL, State
from jobrunner.selftest.journal import Journal
from jobrunner.selftest.stage import HOST
from jobrunner.selftest.wishes import Wishes

CLIENTS: Final = 4
TIMEOUT_SECONDS: Final = (
    15.0  #: for an answer; longer than any process is stopped, and the store's own patience
)
MOST_UNFINISHED: Final = 15  #: jobs of one client, as far as it knows, before it only looks on
PAUSE_SECONDS: Final = 0.05  #: on the average, between two requests of one client
BATCH_JOBS: Final = 12  #: at most
KEYED: Final = 0.3  #: of the submissions have an Idempotency-Key
ONLY_FAILED: Final = 0.7  #: of the map jobs that are asked for again keep what has succeeded
AGAIN: Final = 0.3  #: of those are sent again although they were answered

_REFUSED: Final = frozenset({HTTPStatus.CONFLICT})  # a job that has moved on meanwhile


class UnexpectedAnswerError(JobrunnerError):
    """The API refused what it should have taken."""


class Answer(NamedTuple):
    """What came back; `status` is None if nothing did, and whether it was done is open."""

    status: int | None
    value: Any = None
    replayed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nobody knows if it was done; a 5xx may come after the commit."""
        return self.status is None or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class Door:
    """One API, over one connection.  Nothing is ever sent twice by itself."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_SECONDS)

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Send a request.

        Raises:
            UnexpectedAnswerError: the API says that the request is wrong.
        """
        headers = {} if body is None else {"Content-Type": "application/json"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return Answer(None)
        status = response.status
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _REFUSED:
            raise UnexpectedAnswerError(f"{method} {path} was answered {status}: {said[:500]!r}")
        replayed = response.headers.get("Idempotency-Replayed") == "true"
        return Answer(status, json.loads(said) if status < HTTPStatus.BAD_REQUEST else None, replayed)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Traffic:
    """All clients."""

    def __init__(
        self,
        ports: Sequence[int],
        journal: Journal,
        *,
        seed: int,
    ) -> None:
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._threads = ThreadPoolExecutor(CLIENTS, "client")
        self._clients = [
            _Client(
                [Door(port) for port in ports],
                journal,
                Wishes(f"{seed}-{number}"),
                random.Random(f"{seed} {number}"),  # noqa: S311 - chance that can be had again
                self._stop,
                self._give_up,
            )
            for number in range(CLIENTS)
        ]
        self._running: list[Future[None]] = []

    def start(self) -> None:
        """Let the clients in."""
        self._running = [self._threads.submit(client.run) for client in self._clients]

    def check(self) -> None:
        """Raise what a client has failed with, if one has."""
        for future in self._running:
            if future.done():
                future.result()

    def stop(self) -> None:
        """Ask the clients to leave, each when what it sends with a key is answered."""
        self._stop.set()

    def give_up(self) -> None:
        """Have the clients leave whatever is not answered."""
        self._stop.set()
        self._give_up.set()

    @property
    def is_over(self) -> bool:
        """Whether all clients have left."""
        return all(future.done() for future in self._running)


@dataclass
class _Client:
    """One of those who submit, look, cancel and ask again; it knows its own jobs alone."""

    doors: Sequence[Door]
    journal: Journal
    wishes: Wishes
    rng: random.Random
    stop: threading.Event
    give_up: threading.Event
    unfinished: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)  # failed or cancelled, and may run again
    mapped: set[int] = field(default_factory=set)  # map jobs
    once: set[int] = field(default_factory=set)  # promised at most one execution: never asked to run again

    def run(self) -> None:
        """Do one thing after another until told to stop."""
        try:
            while not self.stop.wait(self.rng.expovariate(1 / PAUSE_SECONDS)):
                self._choose()()
        finally:
            for door in self.doors:
                door.close()

    def _choose(self) -> Callable[[], None]:
        deeds: list[Callable[[], None]] = [self._look, self._cancel, self._retry]
        weights = [30.0, 2.0, 3.0]
        if len(self.unfinished) < MOST_UNFINISHED:
            deeds += [self._submit, self._submit_batch]
            weights += [30.0, 6.0]
        return self.rng.choices(deeds, weights)[0]

    def _call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        return self.rng.choice(self.doors).call(method, path, body, key)

    # -- submitting --------------------------------------------------------------------------------

    def _submit(self) -> None:
        wish = self.wishes.make(self.rng)
        self._send("/jobs", wish, [wish])

    def _submit_batch(self) -> None:
        wishes = [self.wishes.make(self.rng) for _ in range(self.rng.randint(2, BATCH_JOBS))]
        self._send("/jobs/batch", wishes, wishes)

    def _send(self, path: str, body: Any, wishes: list[dict[str, Any]]) -> None:
        key = f"key-{wishes[0]['params']['stamp']}" if self.rng.random() < KEYED else None
        number = self.journal.asked(wishes, key)
        answer = self._call("POST", path, body, key)
        while key is not None and answer.is_open and not self.give_up.wait(PAUSE_SECONDS):
            # That is what a key is for: to send it again until it is answered.
            answer = self._call("POST", path, body, key)
        if answer.is_open:
            return
        self._take_in(self._acknowledge(number, answer), wishes)
        if key is not None and self.rng.random() < AGAIN:
            answer = self._call("POST", path, body, key)
            if not answer.is_open:
                self._acknowledge(number, answer)

    def _acknowledge(self, number: int, answer: Answer) -> list[int]:
        ids: list[int] = answer.value["ids"] if "ids" in answer.value else [answer.value["id"]]
        self.journal.acknowledge(number, ids, replayed=answer.replayed)
        return ids

    def _take_in(self, ids: list[int], wishes: list[dict[str, Any]]) -> None:
        self.unfinished += ids
        self.mapped |= {job_id for job_id, wish in zip(ids, wishes, strict=True) if "map" in wish}
        self.once |= {job_id for job_id, wish in zip(ids, wishes, strict=True) if wish["crash_retries"] == 0}

    # -- what is done to a job -----------------------------------------------------------------------

    def _look(self) -> None:
        if self.unfinished:
            job_id = self.rng.choice(self.unfinished)
            self._take_note("look", job_id, self._call("GET", f"/jobs/{job_id}"))

    def _cancel(self) -> None:
        if self.unfinished:
            job_id = self.rng.choice(self.unfinished)
            grace = {"grace_seconds": self.rng.choice([0.0, 0.5])}
            self._take_note("cancel", job_id, self._call("POST", f"/jobs/{job_id}/cancel", grace))

    def _retry(self) -> None:
        if self.again:
            job_id = self.again.pop(self.rng.randrange(len(self.again)))
            only = {"only": "failed"} if job_id in self.mapped and self.rng.random() < ONLY_FAILED else None
            answer = self._call("POST", f"/jobs/{job_id}/retry", only)
            self.unfinished.append(job_id)
            self._take_note("retry", job_id, answer)

    def _take_note(self, what: str, job_id: int, answer: Answer) -> None:
        shown = answer.value or {}
        state = shown.get("state")
        self.journal.deed(what, job_id, answer.status, state, shown.get("version"))
        if state in FINAL:
            self.unfinished.remove(job_id)
            if state != State.SUCCEEDED and job_id not in self.once:
                self.again.append(job_id)
