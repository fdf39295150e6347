"""All that the product asks of a store: each request of the API, and what dispatchers, workers and people do."""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from jobrunner import store as package
from jobrunner.clock import utc_now
from jobrunner.lifecycle import FINAL, Ending
from jobrunner.reports import EventKind
from jobrunner.store import (
    catalogue,
    checkup,
    dispatchers,
    items,
    lost,
    maps,
    moves,
    retention,
    tally,
    throughput,
    tokens,
)
from jobrunner.store.engine import Store
from jobrunner.store.lookout import Lookout
from jobrunner.store.throughput import Sample
from tests.api.world import World, item_failed, values
from tests.bench.growth.asking import Asked

STORE = Path(package.__file__).parent
#: How a function looks that asks the store something.
ASKING = {"execute", "exec_driver_sql", "executemany", "rows", "first", "_ask", "ask"}


def asking_functions() -> Iterator[tuple[str, str]]:
    """Yield (module, function) of all in the store's modules that ask something."""
    for path in STORE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(map(_asks, ast.walk(node))):
                yield path.stem, node.name


def _asks(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASKING


@contextmanager
def called() -> Iterator[set[tuple[str, str]]]:
    """Note (module, function) of all in the store's modules that are called within the block, in this thread."""
    found: set[tuple[str, str]] = set()

    def note(frame: FrameType, what: str, _: Any) -> None:
        code = frame.f_code
        if what == "call" and code.co_filename.startswith(str(STORE)):
            found.add((Path(code.co_filename).stem, code.co_name))

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


def ask_everything(asked: Asked, world: World) -> None:
    """Ask all that there is, of a store that `asked` has, and of the one of `world`."""
    for ask in asked.questions.values():
        ask()
    # People last: from the first token on, each request needs one.
    for part in (_requests, _map_job, _of_dispatchers, _of_workers, _retention, _samples, _of_people):
        part(world)


def _get(world: World, path: str, status: int = 200, **headers: str) -> Any:
    answer = world.client.get(path, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.get_json() if answer.is_json else answer.data


def _post(world: World, path: str, body: Any, status: int, **headers: str) -> Any:
    answer = world.client.post(path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def _requests(world: World) -> None:
    world.store.try_to_write()
    body, key = {"task": "demo.nothing"}, {"Idempotency-Key": "k"}
    job_id = _post(world, "/jobs", body, 202, **key)["id"]
    _post(world, "/jobs", body, 202, **key)
    _get(world, f"/jobs/{job_id}", 304, **{"If-None-Match": '"1"'})
    _post(world, "/jobs/cancel", {"ids": [job_id]}, 200)
    for paused in (True, False):
        assert world.client.patch("/queues/default", json={"paused": paused}).status_code == 200
    _get(world, "/tasks/demo.train")
    _get(world, "/readyz")
    job_id = world.succeeded()
    _get(world, f"/jobs/{job_id}/partials?attempt=1")
    _get(world, f"/jobs/{job_id}/partials", Accept="application/x-ndjson")
    _get(world, f"/jobs/{job_id}/log?attempt=1&follow=true")
    _post(world, f"/jobs/{world.cancelled()}/retry", None, 202)
    world.claim()


def _map_job(world: World) -> None:
    job_id = world.mapped(0, 1, 2, 3, 4)
    for path in (
        "",
        "/items",
        "/items?state=failed",
        "/items?state=succeeded&after=2",
        "/result",
        "/partials",
    ):
        _get(world, f"/jobs/{job_id}{path}")
    _get(world, f"/jobs/{job_id}/items", Accept="application/x-ndjson")
    _get(world, "/jobs")
    job_id = world.running(map={"n": {"range": [0, 4]}}, max_failed=9)
    world.chunk(job_id, 0, values(0, 0, 1), item_failed(2), values(3, 3))
    with world.store.read() as connection:
        items.spec(connection, job_id)
    _post(world, f"/jobs/{job_id}/retry", {"only": "failed"}, 202)
    world.claim()
    world.hand_out(job_id, 2, 1)
    with world.store.write(durable=False) as connection:
        maps.shorten_chunks(connection, {(job_id, 2): 1})
    with world.store.read() as connection:
        maps.work(connection, job_id)
        maps.tries(connection, job_id, 2)
        maps.values_from(connection, job_id, 0)
        maps.has_open_chunks(connection, job_id)
        maps.is_open(connection, job_id, 2)
        maps.is_in(connection, job_id, 1)
    world.end(job_id, Ending.LOST, attempt=2)


def _of_dispatchers(world: World) -> None:
    other = world.start_dispatcher()
    process = dispatchers.Process("here", "boot/1", 1, 1)
    with world.store.write(durable=False) as connection:
        dispatchers.heartbeat(connection, other, slots=[], now=utc_now())
        dispatchers.set_module_errors(connection, other, {})
        assert dispatchers.gone(connection, process, lambda pid: None)
        moves.stop_requests(connection, other)
        moves.held(connection, world.dispatcher_id)
        lost.postpone(
            connection, dict.fromkeys([one.id for one in lost.lost(connection)], utc_now()) | {1: utc_now()}
        )
        assert tally.mend_queued(connection) == {}
        moves.next_due_at(connection)
        moves.is_any_due(connection, now=utc_now())
        dispatchers.end(connection, other, now=utc_now())
    with Store(world.settings.url).read() as connection:
        catalogue.names(connection)
        for name in catalogue.served(connection, [world.dispatcher_id]):
            catalogue.description(connection, name)


def _of_workers(world: World) -> None:
    job_id = world.running(queue="slow", priority=3)
    world.say(job_id, (EventKind.LOG, "so\n"), (EventKind.PARTIAL, "1"), (EventKind.PROGRESS, "{}"))
    _post(world, f"/jobs/{job_id}/cancel", {}, 202)
    world.end(job_id, Ending.CANCELLED)
    lookout = Lookout(lambda: world.store)
    lookout.is_changed()
    lookout.standings([job_id])
    lookout.close()


def _of_people(world: World) -> None:
    with world.store.write(durable=True) as connection:
        tokens.create(connection, "ci", tokens.Scope.READ, now=utc_now())
        tokens.revoke(connection, "ci", now=utc_now())
    with world.store.read() as connection:
        checkup.pragma(connection, "journal_mode")
        checkup.queued(connection)
        checkup.published(connection, [world.dispatcher_id])
        checkup.latest_submission(connection)


def _retention(world: World) -> None:
    heavy = world.running()
    world.say(heavy, *[(EventKind.PARTIAL, "1")] * retention.LIGHT_EVENTS)
    world.end(heavy, Ending.SUCCEEDED)
    expired = dict.fromkeys(sorted(FINAL), utc_now())
    while retention.remove_some(world.store, expired):
        pass
    assert world.client.delete(f"/jobs/{world.succeeded()}").status_code == 204


def _samples(world: World) -> None:
    now, step = utc_now(), timedelta(minutes=1)
    with world.store.write(durable=False) as connection:
        for seconds in range(1, 4):
            sample = Sample(now - timedelta(days=2, seconds=seconds), 1, 1, 0, 0, 0.5, 7)
            throughput.add(connection, world.dispatcher_id, sample)
        oldest = throughput.oldest_at(connection)
        assert oldest is not None
        before = now - timedelta(days=1)
        first = throughput.first_unthinned(connection, step, after=oldest - step, before=before)
        assert first is not None
        throughput.thin(connection, step, first=first, before=before)
        throughput.drop(connection, before=now)
