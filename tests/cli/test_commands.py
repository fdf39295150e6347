"""The commands about one job: what they ask for, what they print, how they end."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tests.cli.scripted import ERROR, Reply, Server, attempt, ended, job, partials, running

Run = Callable[..., Result]

# -- submit --------------------------------------------------------------------------------------


def test_submit_sends_parameters_and_options_as_the_api_has_them(run: Run, server: Server) -> None:
    options = (
        "--priority=-3 --timeout=1.5 --retries=2 --crash-retries=0 --memory-limit=2G --delay=60 "
        "--run-at=2030-01-31T06:00:00Z --queue=night --label=who=me --label=n=5"
    )
    done = run("submit", "a.b", "n=5", "name=me", 'text="5"', "list=[1,2]", *options.split(), replies=[job()])
    assert done.exit_code == 0
    assert server.requests[0].body == {
        "task": "a.b",
        "params": {"n": 5, "name": "me", "text": "5", "list": [1, 2]},
        "priority": -3,
        "timeout": 1.5,
        "retries": 2,
        "crash_retries": 0,
        "memory_limit": 2 << 30,
        "delay_seconds": 60.0,
        "run_at": "2030-01-31T06:00:00Z",
        "queue": "night",
        "labels": {"who": "me", "n": "5"},
    }


def test_submit_says_what_became_of_the_job_and_how_to_watch_it(run: Run) -> None:
    done = run("submit", "a.b", replies=[job()])
    assert done.stdout == "job 42 queued: waiting for a worker\n"
    assert done.stderr == "watch it: jobrunner show 42 --follow\n"


def test_a_proposed_command_repeats_the_address_that_was_given_by_flag(run: Run, server: Server) -> None:
    done = run("submit", "a.b", "--url", server.url, replies=[job()])
    assert done.stderr == f"watch it: jobrunner show 42 --follow --url {server.url}\n"


def test_submit_for_a_script_prints_the_job_and_nothing_else(run: Run) -> None:
    done = run("submit", "a.b", "--json", replies=[job()])
    assert json.loads(done.stdout) == job()
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["n"], "'n' is not KEY=VALUE"),
        (["--memory-limit=much"], "'much' is not a size such as 512M or 2G"),
        (["--label=x"], "'x' is not KEY=VALUE"),
        (["--priority=high"], "'high' is not a valid integer"),
        (["--prioriti=1"], "No such option"),
    ],
)
def test_what_cannot_be_submitted_is_a_usage_error_before_anything_is_sent(
    run: Run, server: Server, arguments: list[str], why: str
) -> None:
    done = run("submit", "a.b", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert why in done.stderr
    assert server.requests == []


def test_what_the_api_refuses_is_one_line_that_names_the_field(run: Run) -> None:
    detail = "#/params/n: must be of type integer"
    problem = {"title": "Some fields are not valid", "detail": detail}
    done = run("submit", "a.b", "n=x", replies=[Reply(problem, status=422)])
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"Error: {detail}\n")


def test_a_submission_has_the_key_that_it_is_given(run: Run, server: Server) -> None:
    run("submit", "a.b", "--idempotency-key", "night 17", replies=[job()])
    assert server.requests[0].headers["Idempotency-Key"] == "night 17"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "é"])
def test_what_can_be_no_key_is_refused_before_anything_is_sent(run: Run, server: Server, key: str) -> None:
    done = run("submit", "a.b", "--idempotency-key", key)
    assert (done.exit_code, done.stdout, server.requests) == (2, "", [])
    assert "must be 1 to 255 visible ASCII characters" in done.stderr


# -- following -----------------------------------------------------------------------------------


def test_follow_in_a_pipe_prints_plain_lines_in_the_order_of_events(run: Run) -> None:
    done = run(
        "submit",
        "a.b",
        "--follow",
        replies=[
            job(),
            job(),
            running(3, progress={"done": 1, "total": 4, "message": "one"}),
            running(5, partials=2),
            partials({"n": 1}, "zwei ü"),
            ended("succeeded", 6, partials=2, result={"sum": 3}),
        ],
    )
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "job 42 queued: waiting for a worker",
        "job 42 running",
        "progress: 1 of 4, one",
        'partial: {"n": 1}',
        'partial: "zwei ü"',
        "job 42 succeeded after 1.25 s",
        'result: {"sum": 3}',
    ]


def test_follow_tells_the_attempts_apart_and_why_each_ended(run: Run) -> None:
    first = partials(1)
    second = {"items": [{"seq": 9, "attempt": 2, "at": "2026-11-23T01:02:03Z", "value": 2}], "complete": True}
    backing_off = running(5, partials=1, error=ERROR) | {"state": "queued", "reason": "backing off"}
    done = run(
        "show",
        "42",
        "--follow",
        replies=[
            job(),
            running(2),
            backing_off,
            first,
            {"items": [attempt(1)]},
            running(8) | {"attempt": 2},
            ended("failed", 12, partials=2, error=ERROR) | {"attempt": 4},
            second | {"next_after": 9},
            {"items": [attempt(1), attempt(2), attempt(3, outcome="released", error=None), attempt(4)]},
        ],
    )
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "job 42 running",
        "partial: 1",
        "attempt 1 ended: ValueError: no never",
        "job 42 queued: backing off",
        "job 42 running, attempt 2",
        "partial: 2",
        "attempt 2 ended: ValueError: no never",
        "attempt 3",
        "attempt 3 ended: released",
        "job 42 failed after 1.25 s",
        "ValueError: no",
        "Traceback:",
        "  here",
    ]


def test_follow_for_a_script_prints_each_partial_result_and_the_final_job_as_json(run: Run) -> None:
    final = ended("succeeded", 5, partials=2, result=7)
    done = run("submit", "a.b", "--follow", "--json", replies=[job(), final, partials(1, 2)])
    assert [json.loads(line) for line in done.stdout.splitlines()] == [*partials(1, 2)["items"], final]


FATES = [("succeeded", None, 0), ("failed", ERROR, 1), ("cancelled", None, 3)]


@pytest.mark.parametrize(("state", "error", "status"), FATES)
@pytest.mark.parametrize("mode", [[], ["--json"]])
def test_the_exit_status_tells_the_jobs_fate(
    run: Run, state: str, error: Any, status: int, mode: list[str]
) -> None:
    replies = [job(), ended(state, 3, error=error)]
    assert run("show", "42", "--follow", *mode, replies=replies).exit_code == status


def test_a_failure_is_shown_with_its_cause_and_where_it_happened(run: Run) -> None:
    done = run("show", "42", "--follow", replies=[job(), ended("failed", 3, error=ERROR)])
    assert done.stdout.splitlines() == [
        "job 42 failed after 1.25 s",
        "ValueError: no",
        "Traceback:",
        "  here",
    ]


# -- show, list, log -----------------------------------------------------------------------------


def test_show_tells_how_a_job_stands_and_what_it_was_given(run: Run, server: Server) -> None:
    progress = {"done": 5000, "total": 20000.5, "message": None}
    shown = running(9, progress=progress, partials=3, labels={"who": "me"})
    done = run("show", "42", replies=[shown])
    assert server.requests[0].path == "/jobs/42"
    assert done.stdout.splitlines() == [
        "job 42 running",
        "  task       examples.primes",
        '  params     {"n": 100}',
        "  labels     who=me",
        "  submitted  2026-11-23 01:02:03 UTC",
        "  started    2026-11-23 01:02:03 UTC",
        "  progress   5,000 of 20,000.5",
        "  partials   3",
    ]


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_for_a_script_the_job_is_printed_as_json(run: Run, command: str) -> None:
    assert json.loads(run(command, "42", "--json", replies=[job()]).stdout) == job()


def test_list_shows_a_job_a_line_with_what_came_of_it(run: Run) -> None:
    listed = [
        ended("succeeded", 3, result={"long": "x" * 100}, id=1234),
        ended("failed", 3, error=ERROR),
        running(3, progress={"done": 1, "total": None, "message": "one"}),
        job(id=7),
    ]
    done = run("list", replies=[{"items": listed, "next": None}])
    lines = done.stdout.splitlines()
    assert lines[0].split("  ")[0] == "ID"
    assert [head.strip() for head in lines[0].split("  ") if head.strip()] == [
        "ID",
        "STATE",
        "TASK",
        "SUBMITTED (UTC)",
        "RAN",
        "RESULT OR PROGRESS",
    ]
    assert lines[1].startswith("1234  succeeded  examples.primes  2026-11-23 01:02:03  1.25 s  result: {")
    assert lines[1].endswith("x…")
    assert [line.split("  ")[-1] for line in lines[2:]] == ["ValueError: no", "1, one", "2026-11-23 01:02:03"]


def test_list_asks_for_what_is_wanted(run: Run, server: Server) -> None:
    arguments = "--state queued --state running --task t --queue q --label who=me --limit 5 --json"
    done = run("list", *arguments.split(), replies=[{"items": [job()], "next": None}])
    assert json.loads(done.stdout) == [job()]
    assert server.requests[0].path == "/jobs?task=t&queue=q&state=queued&state=running&label=who%3Ame&limit=5"


def test_list_of_an_unknown_state_is_a_usage_error_that_names_the_states(run: Run) -> None:
    done = run("list", "--state", "done")
    assert done.exit_code == 2
    assert all(state in done.stderr for state in ("queued", "running", "succeeded", "failed", "cancelled"))


def test_log_prints_what_the_job_printed_byte_for_byte(run: Run, server: Server) -> None:
    done = run("log", "42", "--tail", "2", "--attempt", "1", replies=[Reply(b"one\ntwo, no end")])
    assert done.stdout == "one\ntwo, no end"
    assert server.requests[0].path == "/jobs/42/log?tail=2&attempt=1"


def test_cancel_says_what_became_of_the_job(run: Run, server: Server) -> None:
    done = run("cancel", "42", "--grace", "0.5", replies=[running(3) | {"reason": "stopping"}])
    assert done.stdout == "job 42 running: stopping\n"
    assert server.requests[0].body == {"grace_seconds": 0.5}


@pytest.mark.parametrize(
    "command", ["show", "log", "cancel", "retry", "delete", "wait", "partials", "attempts"]
)
@pytest.mark.parametrize("job_id", ["0", "-1", "x", "1.5"])
def test_an_id_is_a_whole_number_from_1(run: Run, command: str, job_id: str) -> None:
    assert run(command, "--", job_id).exit_code == 2


def test_delete_asks_for_it_once_and_says_so(run: Run, server: Server) -> None:
    done = run("delete", "42", replies=[Reply(b"", status=204)])
    assert (done.exit_code, done.stdout) == (0, "job 42 is deleted\n")
    assert [(one.method, one.path) for one in server.requests] == [("DELETE", "/jobs/42")]
