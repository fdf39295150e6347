"""The client against a real server, whose API is killed in the middle."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.client import Client, JobCancelledError, JobFailedError, ProblemError
from tests.cli.running import Served, serving
from tests.waiting import eventually


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), "--tasks=probes", "--grace-seconds=0.5") as running:
        yield running.wait_until_ready()


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url) as opened:
        yield opened


def _let_go(folder: Path, *steps: int) -> None:
    for step in steps:
        (folder / str(step)).touch()


def test_a_job_from_its_submission_to_its_result(client: Client, tmp_path: Path) -> None:
    job = client.with_options(labels={"of": "this"}).submit("probes.steps", folder=str(tmp_path), count=2)
    assert not job.is_final
    with pytest.raises(TimeoutError):
        job.result(0.05)
    eventually(lambda: job.refresh().progress)
    assert job.progress == {"done": 0, "total": 2, "message": "waiting for 1"}
    _let_go(tmp_path, 1, 2)
    assert job.result(30) == 2
    assert (job.state, job.attempt, job.log()) == ("succeeded", 1, "step 1\nstep 2\n")
    assert "".join(job.log(follow=True)) == job.log()
    assert [found.id for found in client.jobs(state="succeeded", labels={"of": "this"})] == [job.id]
    assert job.id in [found.id for found in client.jobs(task="probes.steps")]


def test_a_map_job_from_its_submission_to_its_values(client: Client) -> None:
    job = client.map("probes.wrong", {"divisor": range(1, 2001)})
    assert [one.value for one in job.settled(30)] == [1 / divisor for divisor in range(1, 2001)]
    assert job.result(30) == list(job.values()) == [1 / divisor for divisor in range(1, 2001)]
    assert sorted(one.index for one in job.partials() if one.index is not None) == [*range(2000)]
    assert [one["params"] for one in job.items(after=1997)] == [{"divisor": 1999}, {"divisor": 2000}]
    told = job.map
    assert told is not None
    assert (told["done"], told["failed"], told["eta_seconds"]) == (2000, 0, None)


def test_items_that_failed_are_told_and_may_run_again_alone(client: Client) -> None:
    job = client.with_options(chunk_size=1).map("probes.wrong", [{"divisor": n} for n in (1, 0, 2)])
    told = [(one.index, one.value, one.error and one.error["type"]) for one in job.settled(30)]
    assert told == [(0, 1.0, None), (1, None, "ZeroDivisionError"), (2, 0.5, None)]
    with pytest.raises(JobFailedError, match="1 of 3 items failed, the first is item 1: ZeroDivisionError"):
        job.result(30)
    assert [one["index"] for one in job.items("failed")] == [1]
    again = job.retry(only_failed=True)
    assert again.map is not None
    assert again.map["done"] == 2
    assert [one["attempt"] for one in job.wait(30).items()] == [1, 2, 1]


def test_values_of_a_map_job_come_whole_although_the_api_is_killed(served: Served, client: Client) -> None:
    job = client.map("probes.wrong", {"divisor": range(1, 50_001)}).wait(60)
    values = job.values()
    first = [next(values) for _ in range(10)]
    os.kill(served.parts()["api"], signal.SIGKILL)
    assert [*first, *values] == [1 / divisor for divisor in range(1, 50_001)]


def test_partial_results_come_as_they_are_yielded(client: Client, tmp_path: Path) -> None:
    job = client.submit("probes.steps", folder=str(tmp_path))
    coming = job.partials()
    for step in (1, 2, 3):
        _let_go(tmp_path, step)
        assert next(coming).value == {"step": step}
    assert list(coming) == []
    assert job.refresh().is_final


def test_an_api_that_is_killed_again_and_again_costs_neither_a_partial_result_nor_the_result(
    served: Served, client: Client, tmp_path: Path
) -> None:
    job = client.submit("probes.steps", folder=str(tmp_path), count=4)
    results: list[object] = []
    waiting = threading.Thread(target=lambda: results.append(client.job(job.id).result(120)))
    waiting.start()
    coming = job.partials()
    for step in (1, 2, 3, 4):
        _let_go(tmp_path, step)
        found = next(coming)
        assert (found.value, found.attempt) == ({"step": step}, 1)
        if step < 3:
            api = served.parts()["api"]
            os.kill(api, signal.SIGKILL)
            eventually(lambda api=api: served.parts().get("api", api) != api, 30)  # type: ignore[misc]
    assert list(coming) == []
    waiting.join(60)
    assert results == [4]


def test_a_running_job_is_cancelled_and_asked_for_again(client: Client, tmp_path: Path) -> None:
    job = client.submit("probes.steps", folder=str(tmp_path), count=1)
    eventually(lambda: job.refresh().state == "running")
    assert job.cancel(grace_seconds=0.2).cancel().wait(30).state == "cancelled"
    with pytest.raises(JobCancelledError):
        job.result()
    _let_go(tmp_path, 1)
    assert job.retry().result(30) == 1
    assert job.attempt == 2
    with pytest.raises(ProblemError, match="cannot cancel it"):
        job.cancel()


def test_a_failure_comes_with_the_remote_traceback(client: Client) -> None:
    with pytest.raises(JobFailedError, match=r"ZeroDivisionError: division by zero") as caught:
        client.submit("probes.wrong", divisor=0).result(30)
    assert "in wrong" in str(caught.value.__cause__)


def test_a_paused_queue_starts_nothing_until_it_is_resumed(client: Client, tmp_path: Path) -> None:
    _let_go(tmp_path, 1)
    night = client.with_options(queue="night")
    night.submit("probes.steps", folder=str(tmp_path), count=1).result(30)
    assert client.pause("night")["paused"]
    job = night.submit("probes.steps", folder=str(tmp_path), count=1)
    client.submit("probes.steps", folder=str(tmp_path), count=1).result(30)
    assert job.refresh().reason == "queue paused"
    assert {queue["name"]: queue["paused"] for queue in client.queues()} == {"default": False, "night": True}
    assert not client.resume("night")["paused"]
    assert job.result(30) == 1


def test_what_there_is_can_be_looked_up(client: Client) -> None:
    assert {task["name"] for task in client.tasks()} == {"probes.steps", "probes.wrong"}
    assert list(client.task("probes.steps")["params"]["properties"]) == ["folder", "count"]
    assert client.stats()["jobs"]["running"] == 0
    assert all(check["ok"] for check in client.checks())


def test_the_api_can_be_spoken_to_through_a_unix_socket(served: Served, tmp_path: Path) -> None:
    program = (
        "import os, socket, sys\n"
        "from jobrunner.api.server import run\n"
        "from jobrunner.settings import load\n"
        "listening = socket.socket(socket.AF_UNIX)\n"
        "listening.bind(sys.argv[2])\n"
        "listening.listen()\n"
        "os.dup2(listening.fileno(), 3)\n"  # as systemd passes it
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "run(load({'data': sys.argv[1]}, {}))\n"
    )
    path = tmp_path / "api.sock"
    with (tmp_path / "log").open("wb") as log:
        api = subprocess.Popen(
            [sys.executable, "-c", program, str(served.data), str(path)], stdout=log, stderr=log
        )
    try:
        eventually(path.exists, 30)
        with Client(f"unix:{path}") as client:
            assert client.submit("probes.steps", folder=str(tmp_path), count=0).result(30) == 0
            assert list(client.submit("probes.steps", folder=str(tmp_path), count=0).partials()) == []
    finally:
        api.terminate()
        api.wait(30)


def test_what_is_too_large_is_refused_as_such_although_it_is_never_read_to_its_end(client: Client) -> None:
    text = "x" * (60 << 20)
    with pytest.raises(ProblemError, match="max_body_bytes") as caught:
        client.submit("probes.steps", folder=text)
    assert caught.value.status == 413
    assert client.checks()
