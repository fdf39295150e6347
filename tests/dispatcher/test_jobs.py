"""What a job may do, and what becomes of it."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobrunner import kernel
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import EventKind
from tests.dispatcher.running import World, is_gone, told
from tests.waiting import eventually


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A dispatcher for all that leave it as they found it."""
    with closing(World(tmp_path_factory.mktemp("served"))) as made:
        made.start()
        yield made


def test_a_job_returns_its_result(served: World) -> None:
    job = served.run("add", params={"a": 2, "b": 3})
    assert (job.state, job.result, job.attempt, job.error) == (State.SUCCEEDED, "5", 1, None)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    (attempt,) = served.attempts(job.id)
    assert attempt.outcome is Ending.SUCCEEDED
    assert attempt.worker in (0, 1)
    assert attempt.peak_memory_bytes is not None
    assert attempt.peak_memory_bytes > 1 << 20
    assert attempt.cpu_seconds is not None


def test_partial_results_are_there_while_the_job_runs(served: World, tmp_path: Path) -> None:
    (job_id,) = served.submit("stream", params={"directory": str(tmp_path)})
    assert eventually(lambda: served.partials(job_id)) == ["first"]
    assert served.job(job_id).state is State.RUNNING
    assert served.job(job_id).partials == 1
    (tmp_path / "go").touch()
    job = served.finished(job_id)
    assert job.result == '"done"'
    assert served.partials(job_id) == ["first", "second"]


def test_twenty_thousand_partial_results_come_whole_and_in_order(served: World) -> None:
    job = served.run("count", params={"n": 20_000})
    assert served.partials(job.id) == list(range(20_000))
    assert (job.partials, job.result) == (20_000, "20000")
    seqs = [event.seq for event in served.events(job.id)]
    assert seqs == list(range(1, job.version + 1))


def test_an_exception_is_recorded_from_the_users_frame_on(served: World) -> None:
    job = served.run("raises", params={"message": "no such thing"})
    error = served.error(job)
    assert job.state is State.FAILED
    assert (error["kind"], error["type"], error["message"]) == ("exception", "ValueError", "no such thing")
    first_frame = error["traceback"].splitlines()[1]
    assert "faults.py" in first_frame
    assert "jobrunner/dispatcher" not in error["traceback"]
    assert error["log_tail"] == "about to raise\n"


def test_retries_are_spent_one_by_one(served: World) -> None:
    job = served.run("raises_until", params={"attempt": 3}, retries=5)
    assert (job.state, job.attempt, job.retries_used, job.result) == (State.SUCCEEDED, 3, 2, "3")
    assert [one.outcome for one in served.attempts(job.id)] == [
        Ending.EXCEPTION,
        Ending.EXCEPTION,
        Ending.SUCCEEDED,
    ]


def test_parameters_that_do_not_fit_fail_the_job_with_their_place(served: World) -> None:
    job = served.run("add", params={"a": 1, "b": "two"})
    assert job.state is State.FAILED
    assert "$.b" in served.error(job)["message"]


@pytest.mark.parametrize(
    ("task", "place"),
    [("unserializable", "result['models'][1]"), ("partial_unserializable", "partial result 1['2'][")],
)
def test_a_value_that_cannot_become_json_names_its_place(served: World, task: str, place: str) -> None:
    job = served.run(task, retries=3)
    error = served.error(job)
    assert (job.state, job.attempt, error["kind"]) == (State.FAILED, 1, "unserializable")
    assert place.replace("'2'", "2") in error["message"].replace("'2'", "2")


def test_nan_and_infinity_become_null(served: World) -> None:
    job = served.run("not_a_number")
    assert job.result is not None
    assert json.loads(job.result) == [None, 1.5]
    assert served.partials(job.id) == [{"loss": None}]


def test_a_result_above_its_limit_names_the_limit(world: World) -> None:
    world.start(max_result_bytes="64K")
    job = world.run("big_result", params={"size": 100_000})
    error = world.error(job)
    assert (job.state, error["kind"]) == (State.FAILED, "unserializable")
    assert "max_result_bytes is 65536" in error["message"]
    assert world.run("big_result", params={"size": 60_000}).state is State.SUCCEEDED


def test_everything_that_is_printed_becomes_the_log(served: World) -> None:
    job = served.run("prints_everywhere")
    log = served.log(job.id)
    for said in (
        "from python",
        "from stderr",
        "from c",
        "from a child",
        "wide: \u00e9\u4e2d",
        "not utf-8: \ufffd",
    ):
        assert said in log
    assert served.log(served.run("nothing").id) == ""


def test_a_hundred_megabytes_of_print_keep_the_head_and_the_tail(served: World) -> None:
    job = served.run("prints_much", params={"megabytes": 100}, seconds=60)
    log = served.log(job.id)
    assert job.result == '"printed"'
    assert len(log) < (1 << 20) + 10_000
    assert log.startswith("x" * 1023 + "\n")
    assert "max_log_bytes is 1048576" in log
    assert log.endswith("the end\n")


def test_progress_is_kept_and_its_last_word_is_never_dropped(served: World) -> None:
    job = served.run("progresses", params={"n": 10_000})
    assert job.progress is not None
    assert json.loads(job.progress) == {"done": 10_000, "total": 10_000, "message": "step 10000"}
    assert 1 <= len(served.events(job.id, EventKind.PROGRESS)) < 1000


def test_sys_exit_ends_the_job_and_not_its_process(world: World) -> None:
    world.start(workers=1)
    before = world.run("pid").result
    error = world.error(world.run("sys_exits"))
    assert (error["kind"], error["type"], error["message"]) == ("exception", "SystemExit", "leaving")
    assert world.run("pid").result == before


def test_a_job_leaves_no_directory_and_no_stream_behind(world: World) -> None:
    world.start(workers=1)
    before = world.run("where").result
    assert world.run("moves_away").result == '"moved"'
    after = world.run("where")
    assert after.result == before
    assert world.log(after.id) == "here\n"


def test_a_forked_helper_cannot_speak_for_the_job(served: World) -> None:
    job = served.run("forks")
    assert (job.state, job.result, job.progress) == (State.SUCCEEDED, "7", None)


def test_the_job_process_is_warm_until_its_jobs_are_up(world: World) -> None:
    world.start(workers=1, max_jobs_per_process=3)
    pids = [world.run("pid").result for _ in range(7)]
    assert pids[0] == pids[1] == pids[2]
    assert pids[3] == pids[4] == pids[5]
    assert len({pids[0], pids[3], pids[6]}) == 3


def test_higher_priority_goes_first_then_the_oldest(world: World, tmp_path: Path) -> None:
    world.start(workers=1)
    world.submit("hold", params={"directory": str(tmp_path)})
    eventually(told(tmp_path, "held"))
    low, also_low = world.submit("started", times=2, priority=-1)
    (high,) = world.submit("started", priority=5)
    (tmp_path / "go").touch()
    order = sorted(world.all_finished([low, also_low, high]), key=lambda job: float(job.result or "inf"))
    assert [job.id for job in order] == [high, low, also_low]


def test_short_jobs_do_not_wait_behind_one_that_is_longer_than_expected(world: World, tmp_path: Path) -> None:
    world.start(workers=1)
    world.all_finished(world.submit("gate", times=100, params={"directory": str(tmp_path)}))
    (tmp_path / "shut").touch()
    ids = world.submit("gate", times=20, params={"directory": str(tmp_path)})
    eventually(told(tmp_path, "gated"))
    # One is stuck; those that came along in its bundle are queued again for whoever has room.
    eventually(lambda: [world.job(job_id).state for job_id in ids].count(State.RUNNING) == 1)
    (tmp_path / "go").touch()
    done = world.all_finished(ids)
    assert {job.state for job in done} == {State.SUCCEEDED}
    assert all(job.crash_retries_used == job.retries_used == 0 for job in done)
    outcomes = [one.outcome for job in done for one in world.attempts(job.id)]
    assert Ending.RELEASED in outcomes
    assert outcomes.count(Ending.SUCCEEDED) == 20


def test_a_job_process_is_marked_as_the_kernels_first_victim(served: World, tmp_path: Path) -> None:
    (job_id,) = served.submit("hold", params={"directory": str(tmp_path)})
    pid = json.loads(eventually(told(tmp_path, "held")))["pid"]
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    assert str(Path(f"/proc/{pid}/fd/0").readlink()) == os.devnull
    assert os.getsid(pid) == pid
    (tmp_path / "go").touch()
    served.finished(job_id)
    assert not is_gone(pid)


# -- what a task leaves behind ---------------------------------------------------------------------


def test_a_forked_child_that_comes_back_speaks_for_nobody(world: World) -> None:
    world.start(workers=1)
    for _ in range(5):
        assert world.run("forks_and_returns").result == '"the parent"'
        job = world.run("forks_in_the_middle")
        assert world.partials(job.id) == ["before", "the parent"]
        assert world.run("add", params={"a": 1, "b": 1}).result == "2"


def test_progress_that_cannot_become_json_fails_the_job_and_not_its_process(world: World) -> None:
    world.start(workers=1)
    before = world.run("pid").result
    job = world.run("progress_of_bytes")
    assert (job.state, world.error(job)["kind"]) == (State.FAILED, "unserializable")
    assert world.run("pid").result == before


def test_children_that_end_later_are_reaped(world: World) -> None:
    daemon = world.start(workers=1)
    for _ in range(5):
        world.run("leaves_children")
    worker = daemon.slots()[0]["pid"]

    def only_the_job_process_is_left() -> bool:
        world.run("nothing")
        return len(kernel.children(worker)) == 1

    assert eventually(only_the_job_process_is_left)


def test_a_thread_that_lives_on_says_nothing_of_the_next_job(world: World, tmp_path: Path) -> None:
    world.start(workers=1)
    world.run("leaves_a_thread", params={"directory": str(tmp_path)})
    for _ in range(20):
        assert world.run("nothing").progress is None
    (tmp_path / "go").touch()


def test_what_was_cancelled_or_given_back_has_not_failed(world: World, tmp_path: Path) -> None:
    daemon = world.start(workers=1)
    (job_id,) = world.submit("cleans_up", params={"directory": str(tmp_path)})
    eventually(told(tmp_path, "stuck"))
    world.cancel(job_id, grace_seconds=0)
    assert world.finished(job_id).state is State.CANCELLED
    assert world.run("raises").state is State.FAILED
    assert world.run("nothing").state is State.SUCCEEDED
    eventually(lambda: daemon.slots()[0]["done"] == 1)
    assert daemon.slots()[0]["failed"] == 1


def test_signals_that_a_task_has_set_do_not_reach_the_next_job(world: World, tmp_path: Path) -> None:
    world.start(workers=1)
    world.run("leaves_signals")
    (job_id,) = world.submit("cleans_up", params={"directory": str(tmp_path)})
    eventually(told(tmp_path, "stuck"))
    world.cancel(job_id, grace_seconds=30)
    assert world.finished(job_id).state is State.CANCELLED
    assert (tmp_path / "cleaned").exists()


def test_memory_that_helpers_share_counts_once(served: World, tmp_path: Path) -> None:
    (job_id,) = served.submit(
        "shares_memory", params={"megabytes": 100, "directory": str(tmp_path)}, memory_limit_bytes=250 << 20
    )
    eventually(told(tmp_path, "shared"))
    (tmp_path / "go").touch()
    job = served.finished(job_id)
    assert (job.state, job.result) == (State.SUCCEEDED, "100")
