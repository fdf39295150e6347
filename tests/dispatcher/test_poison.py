"""Jobs that kill what runs them, or speak garbage: they fail, and the others do not."""

from pathlib import Path

import pytest

from jobrunner.client import Client
from jobrunner.lifecycle import State
from jobrunner.retry import APART_SECONDS
from jobrunner.store import catalogue
from jobrunner.store.jobs import Job
from tests.cli.running import serving
from tests.dispatcher.running import MODULES, World, is_gone, told
from tests.waiting import eventually


def _run_until_final(world: World, job_ids: list[int], tasks: str = "faults") -> list[Job]:
    """Start the dispatcher again whenever it has died, until the jobs are final; return them."""
    daemon = world.start(ready=False, tasks=tasks)

    def are_final() -> bool:
        nonlocal daemon
        if daemon.process.poll() is not None:
            daemon = world.start(ready=False, tasks=tasks)
        return all(world.job(job_id).is_final for job_id in job_ids)

    eventually(are_final, 60)
    return [world.job(job_id) for job_id in job_ids]


@pytest.mark.parametrize("what", ["worker", "forkserver", "writer", "group"])
def test_a_job_that_kills_what_runs_it_fails_after_its_budget_and_the_others_succeed(
    world: World, tmp_path: Path, what: str
) -> None:
    ordinary = world.submit("pid", times=10)
    (poison,) = world.submit("kills", params={"what": what}, crash_retries=1)
    ordinary += world.submit("pid", times=10)
    (long,) = world.submit("gate", params={"directory": str(tmp_path)})
    job, *others = _run_until_final(world, [poison, long, *ordinary])
    assert (job.state, world.error(job)["kind"], job.attempt) == (State.FAILED, "lost", 2)
    assert {one.state for one in others} == {State.SUCCEEDED}


def test_a_start_that_takes_longer_than_the_lost_are_apart_costs_the_neighbours_nothing(
    world: World, tmp_path: Path
) -> None:
    # Loaded twice before the dispatcher is up: to tell the tasks, and for the workers.
    (world.data / "slow.py").write_text(
        f"import threading\nthreading.Event().wait({APART_SECONDS / 2 + 0.5})\n"
    )
    (tmp_path / "shut").touch()
    (long,) = world.submit("gate", params={"directory": str(tmp_path)})
    first = world.start(tasks="slow,faults")
    eventually(told(tmp_path, "gated"), 30)
    (poison,) = world.submit("kills", params={"what": "forkserver"})
    first.wait()
    (tmp_path / "gated").unlink()
    (job,) = _run_until_final(world, [poison], tasks="slow,faults")
    assert (job.state, world.error(job)["kind"], job.attempt) == (State.FAILED, "lost", 3)
    (tmp_path / "go").touch()
    (neighbour,) = _run_until_final(world, [long], tasks="slow,faults")
    assert (neighbour.state, neighbour.crash_retries_used) == (State.SUCCEEDED, 1)


def test_a_job_that_kills_its_dispatcher_again_and_again_takes_nobody_along(tmp_path: Path) -> None:
    """With the default budget of all: the poison has one attempt more than its neighbours can afford to lose."""
    (tmp_path / "shut").touch()
    with (
        serving(tmp_path, "--tasks=faults", path=MODULES) as served,
        Client(served.wait_until_ready().url, patience_seconds=60.0) as client,
    ):
        long = client.submit("gate", directory=str(tmp_path))
        eventually(told(tmp_path, "gated"), 30)
        poison = client.submit("kills", what="dispatcher")
        short = [client.submit("pid") for _ in range(30)]
        eventually(lambda: poison.refresh().state == "failed", 60)
        (tmp_path / "go").touch()
        for one in [long, *short]:
            one.wait(60)
        assert {one.state for one in [long, *short]} == {"succeeded"}
        error = poison.data["error"]
        assert error is not None
        assert (error["kind"], poison.data["attempt"]) == ("lost", 3)
        assert long.data["attempt"] <= 3


# -- the Pipe -----------------------------------------------------------------------------------------


GARBAGE = {
    "no word of ours": "garbage\n",
    "a partial result that is no JSON": "progress: 10%\n",
    "a result that is no JSON": "results\n",
    "two values": "r1 2\n",
    "an error of no kind": 'x{"kind":"succeeded","type":"E","message":"","traceback":null}\n',
    "an error that lacks something": 'x{"kind":"exception"}\n',
    "a use of nothing": "u{}\n",
    "a number that is a text": 'u{"cpu_seconds":"1","process_cpu_seconds":1,"peak_memory_bytes":1}\n',
    "a progress that lacks something": 'g{"done":1}\n',
    "a second hello": 'h{"tasks":[],"errors":{},"refused":null,"cpu_seconds":0}\n',
    "a result too deep to be read": "r" + "[" * 3000 + "\n",
    "a partial result too deep to be read": "p" + "[" * 3000 + "\n",
    "a use too deep to be read": 'u{"zz":' + "[" * 3000 + "\nr1\n",
    "an error too deep to be read": 'x{"zz":' + "[" * 3000 + "\n",
    "not ASCII": 'p"\u00e9"\n',
    "nothing": "\n",
}


def test_garbage_on_the_pipe_is_the_fault_of_the_job_and_of_nobody_else(world: World) -> None:
    daemon = world.start(workers=1)
    for words in GARBAGE.values():
        (job_id,) = world.submit("speaks", params={"words": words}, crash_retries=0)
        (after,) = world.submit("pid")
        error = world.error(world.finished(job_id))
        assert (error["kind"], error["signal"], error["oom_killed"]) == ("crashed", "SIGKILL", None), words
        assert "garbage on its Pipe" in error["message"]
        assert world.partials(job_id) == ["before"]
        assert world.finished(after).state is State.SUCCEEDED
    assert daemon.process.poll() is None


def test_garbage_after_the_last_word_is_not_the_next_jobs_fault(world: World) -> None:
    world.start(workers=1)
    answer = 'u{"cpu_seconds":0,"process_cpu_seconds":0,"peak_memory_bytes":0}\nrnull\n'
    for words in ("rnull\nmore\n", "rnull\nhalf a line", "half a line", f"rnull\n{answer}"):
        params = {"words": words, "wait": False}
        first, after = world.submit("speaks", params=params)[0], world.submit("pid")[0]
        assert world.finished(first).is_final
        job = world.finished(after)
        assert (job.state, job.attempt, job.crash_retries_used) == (State.SUCCEEDED, 1, 0), words
        assert job.result != "null", words


@pytest.mark.parametrize("words", ["noise\n", "noise"])
def test_garbage_from_a_job_that_is_over_is_not_the_next_jobs_fault(
    world: World, tmp_path: Path, words: str
) -> None:
    world.start(workers=1)
    world.run("speaks_later", params={"directory": str(tmp_path), "words": words})
    (tmp_path / "speak").touch()
    eventually(told(tmp_path, "spoken"))
    job = world.run("pid", crash_retries=0)
    assert (job.state, job.error) == (State.SUCCEEDED, None)


def test_a_line_without_an_end_is_cut_short(world: World) -> None:
    daemon = world.start(workers=1, max_result_bytes="1M", max_partial_bytes="1M")
    job = world.run("speaks", params={"words": "p", "endless": True}, crash_retries=0)
    assert "garbage on its Pipe" in world.error(job)["message"]
    assert _peak_bytes(daemon.slots()[0]["pid"]) < 150 << 20


def test_a_grandchild_that_speaks_on_after_the_death_of_the_job_is_killed_with_it(
    world: World, tmp_path: Path
) -> None:
    world.start(workers=1)
    (job_id,) = world.submit("daemon_speaks", params={"directory": str(tmp_path)}, crash_retries=0)
    daemon = int(eventually(told(tmp_path, "daemon")))
    eventually(lambda: world.job(job_id).partials > 100)
    (tmp_path / "go").touch()
    job = world.finished(job_id)
    assert (job.state, world.error(job)["exit_code"]) == (State.FAILED, 3)
    assert is_gone(daemon)
    assert world.run("pid").state is State.SUCCEEDED


def _peak_bytes(pid: int) -> int:
    """The most that was ever resident of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


# -- modules ------------------------------------------------------------------------------------------


def test_a_module_that_fails_after_it_has_registered_a_task_offers_none(world: World) -> None:
    (world.data / "half.py").write_text("from jobrunner import task\n@task\ndef run(): ...\n1 / 0\n")
    daemon = world.start(tasks="half,faults")
    assert world.run("pid").state is State.SUCCEEDED
    assert "ZeroDivisionError" in daemon.entry.module_errors
    assert "task module half cannot be imported" in daemon.said
    with world.store.read() as connection:
        assert "half.run" not in catalogue.names(connection)


def test_a_module_that_writes_into_the_pipe_is_named(world: World) -> None:
    (world.data / "noisy.py").write_text(
        "import os\n"
        "for fd in range(3, 20):\n"
        "    if os.path.exists(f'/proc/self/fd/{fd}') and 'socket' in os.readlink(f'/proc/self/fd/{fd}'):\n"
        "        os.write(fd, b'noise\\n')\n"
    )
    daemon = world.start(tasks="noisy,faults")
    assert "it wrote into the Pipe to its worker" in daemon.entry.module_errors
    assert world.run("pid").state is State.SUCCEEDED
