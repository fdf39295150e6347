"""The commands that talk to the API: what they ask for, what they print, how they end."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobrunner.cli.main import main
from tests.cli.running import command, environ
from tests.cli.scripted import Reply, Server, job

Run = Callable[..., Result]


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBRUNNER_URL", server.url)

    def run_with(*arguments: str, replies: list[Any] = [], **more: Any) -> Result:  # noqa: B006 - only read
        server.replies = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        return CliRunner().invoke(main, arguments, catch_exceptions=False, **more)

    return run_with


def _running(version: int, **more: Any) -> dict[str, Any]:
    return job(
        state="running", reason=None, attempt=1, version=version, started_at=job()["created_at"], **more
    )


def _ended(state: str, version: int, **more: Any) -> dict[str, Any]:
    return _running(version, **{"ran_seconds": 1.25, **more}) | {"state": state}


def _partials(*values: Any) -> dict[str, Any]:
    items = [
        {"seq": 3 + i, "attempt": 1, "at": "2026-11-23T01:02:03Z", "value": v} for i, v in enumerate(values)
    ]
    return {"items": items, "next_after": 9, "complete": True}


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
            _running(3, progress={"done": 1, "total": 4, "message": "one"}),
            _running(5, partials=2),
            _partials({"n": 1}, "zwei ü"),
            _ended("succeeded", 6, partials=2, result={"sum": 3}),
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
    first = _partials(1)
    second = {"items": [{"seq": 9, "attempt": 2, "at": "2026-11-23T01:02:03Z", "value": 2}], "complete": True}
    backing_off = _running(5, partials=1, error=ERROR) | {"state": "queued", "reason": "backing off"}
    done = run(
        "show",
        "42",
        "--follow",
        replies=[
            job(),
            _running(2),
            backing_off,
            first,
            {"items": [_attempt(1)]},
            _running(8) | {"attempt": 2},
            _ended("failed", 12, partials=2, error=ERROR) | {"attempt": 4},
            second | {"next_after": 9},
            {"items": [_attempt(1), _attempt(2), _attempt(3, outcome="released", error=None), _attempt(4)]},
        ],
    )
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "job 42 running",
        "partial: 1",
        "attempt 1 ended: exception: ValueError: no never",
        "job 42 queued: backing off",
        "job 42 running, attempt 2",
        "partial: 2",
        "attempt 2 ended: exception: ValueError: no never",
        "attempt 3",
        "attempt 3 ended: released",
        "job 42 failed after 1.25 s",
        "exception: no",
        "Traceback:",
        "  here",
    ]


def test_follow_for_a_script_prints_each_partial_result_and_the_final_job_as_json(run: Run) -> None:
    final = _ended("succeeded", 5, partials=2, result=7)
    done = run("submit", "a.b", "--follow", "--json", replies=[job(), final, _partials(1, 2)])
    assert [json.loads(line) for line in done.stdout.splitlines()] == [*_partials(1, 2)["items"], final]


ERROR = {"kind": "exception", "type": "ValueError", "message": "no", "traceback": "Traceback:\n  here\n"}
FATES = [("succeeded", None, 0), ("failed", ERROR, 1), ("cancelled", None, 3)]


@pytest.mark.parametrize(("state", "error", "status"), FATES)
@pytest.mark.parametrize("mode", [[], ["--json"]])
def test_the_exit_status_tells_the_jobs_fate(
    run: Run, state: str, error: Any, status: int, mode: list[str]
) -> None:
    replies = [job(), _ended(state, 3, error=error)]
    assert run("show", "42", "--follow", *mode, replies=replies).exit_code == status


def test_a_failure_is_shown_with_its_cause_and_where_it_happened(run: Run) -> None:
    done = run("show", "42", "--follow", replies=[job(), _ended("failed", 3, error=ERROR)])
    assert done.stdout.splitlines() == [
        "job 42 failed after 1.25 s",
        "exception: no",
        "Traceback:",
        "  here",
    ]


# -- show, list, log -----------------------------------------------------------------------------


def test_show_tells_how_a_job_stands_and_what_it_was_given(run: Run, server: Server) -> None:
    progress = {"done": 5000, "total": 20000.5, "message": None}
    shown = _running(9, progress=progress, partials=3, labels={"who": "me"})
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
        _ended("succeeded", 3, result={"long": "x" * 100}, id=1234),
        _ended("failed", 3, error=ERROR),
        _running(3, progress={"done": 1, "total": None, "message": "one"}),
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
    assert [line.split("  ")[-1] for line in lines[2:]] == ["exception: no", "1, one", "2026-11-23 01:02:03"]


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
    done = run("cancel", "42", "--grace", "0.5", replies=[_running(3) | {"reason": "stopping"}])
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


def _attempt(number: int, **more: Any) -> dict[str, Any]:
    return {
        "attempt": number,
        "dispatcher": 3,
        "worker": 0,
        "started_at": "2026-11-23T01:02:03Z",
        "finished_at": "2026-11-23T01:02:05.5Z",
        "outcome": "exception",
        "error": {"kind": "exception", "type": "ValueError", "message": "no\nnever"},
        "peak_memory_bytes": 3 << 20,
        "cpu_seconds": 1.25,
        **more,
    }


RUNS = {"finished_at": None, "outcome": None, "error": None, "peak_memory_bytes": None, "cpu_seconds": None}


def test_attempts_are_listed_with_what_they_took_and_how_they_ended(run: Run, server: Server) -> None:
    listed = {"items": [_attempt(1), _attempt(2, **RUNS, worker=None)]}
    done = run("attempts", "42", replies=[listed])
    assert server.requests[0].path == "/jobs/42/attempts"
    assert done.stdout.splitlines() == [
        "ATTEMPT  STARTED (UTC)        RAN    CPU     MEMORY  DISPATCHER  WORKER  OUTCOME",
        "1        2026-11-23 01:02:03  2.5 s  1.25 s  3.0 MB  3           0       exception: ValueError: no never",
        "2        2026-11-23 01:02:03                         3                   runs",
    ]
    assert json.loads(run("attempts", "42", "--json", replies=[listed]).stdout) == listed["items"]


# -- partials ------------------------------------------------------------------------------------


def _page(*seqs: int, attempt: int = 1) -> dict[str, Any]:
    at = "2026-11-23T01:02:03Z"
    items = [{"seq": seq, "attempt": attempt, "at": at, "value": {"of": seq}} for seq in seqs]
    return {"items": items, "next_after": 0, "complete": False}


def test_partials_are_a_json_value_a_line_page_after_page(run: Run, server: Server) -> None:
    done = run("partials", "42", replies=[_page(3, 4), _page(7), _page()])
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"of": 3}, {"of": 4}, {"of": 7}]
    asked = [one.path.partition("after=")[2].partition("&")[0] for one in server.requests]
    assert asked == ["0", "4", "7"]


def test_partials_can_be_printed_whole_from_a_place_on_and_of_one_attempt(run: Run, server: Server) -> None:
    replies = [_page(3), _page(7, attempt=2), _page()]
    done = run("partials", "42", "--json", "--after=2", "--attempt=2", replies=replies)
    assert [json.loads(line) for line in done.stdout.splitlines()] == _page(7, attempt=2)["items"]
    assert "after=2" in server.requests[0].path


# -- queues --------------------------------------------------------------------------------------


def _queue(name: str, since: str | None = None) -> dict[str, Any]:
    counts = {"queued": 1234, "running": 1, "succeeded": 0, "failed": 0, "cancelled": 0}
    return {"name": name, "paused": since is not None, "paused_since": since, "jobs": counts}


def test_queues_are_listed_with_their_jobs_and_since_when_they_are_paused(run: Run) -> None:
    listed = [_queue("default"), _queue("night", "2026-11-23T01:02:03Z")]
    assert run("queues", replies=[{"items": listed}]).stdout.splitlines() == [
        "QUEUE    QUEUED  RUNNING  SUCCEEDED  FAILED  CANCELLED  PAUSED SINCE (UTC)",
        "default  1,234   1        0          0       0",
        "night    1,234   1        0          0       0          2026-11-23 01:02:03",
    ]
    assert json.loads(run("queues", "--json", replies=[{"items": listed}]).stdout) == listed


@pytest.mark.parametrize(("action", "paused"), [("pause", True), ("resume", False)])
def test_queues_are_paused_and_resumed_by_name(run: Run, server: Server, action: str, paused: bool) -> None:
    done = run("queues", action, "a b", "night", "--json", replies=[_queue("a b"), _queue("night")])
    assert json.loads(done.stdout) == [_queue("a b"), _queue("night")]
    told = [(one.method, one.path, one.body) for one in server.requests]
    assert told == [
        ("PATCH", "/queues/a%20b", {"paused": paused}),
        ("PATCH", "/queues/night", {"paused": paused}),
    ]


@pytest.mark.parametrize(
    ("arguments", "why"), [(["pause"], "name the queues to pause"), (["night"], "'night' is not one of")]
)
def test_what_is_to_be_done_to_a_queue_must_be_said(
    run: Run, server: Server, arguments: list[str], why: str
) -> None:
    done = run("queues", *arguments)
    assert (done.exit_code, done.stdout, server.requests) == (2, "", [])
    assert why in done.stderr


# -- tasks ---------------------------------------------------------------------------------------

TASK = {
    "name": "my.score",
    "doc": "Score rows.\n\nMore about it.",
    "params": {
        "properties": {
            "rows": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
            "limit": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": 5},
            "mode": {"enum": ["fast", "exact"], "default": "fast"},
            "name": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["rows"],
        "$defs": {
            "Point": {
                "type": "object",
                "properties": {
                    "x": {"type": "number"},
                    "of": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}], "default": None},
                },
                "required": ["x"],
            }
        },
    },
    "options": {"timeout": 60.0, "retries": 0},
}


def tasks(*items: dict[str, Any], **errors: str) -> dict[str, Any]:
    return {"items": list(items), "module_errors": errors}


def test_tasks_lists_each_with_the_first_line_about_it(run: Run) -> None:
    done = run("tasks", replies=[tasks(TASK, TASK | {"name": "b", "doc": ""})])
    assert done.stdout.splitlines() == ["TASK      WHAT IT DOES", "my.score  Score rows.", "b"]


def test_without_tasks_it_says_what_may_be_wrong(run: Run) -> None:
    assert "is a dispatcher running?" in run("tasks", replies=[tasks()]).stderr


def test_tasks_names_the_modules_that_cannot_be_imported(run: Run) -> None:
    done = run("tasks", replies=[tasks(TASK, mine="ImportError: no such thing")])
    assert "my.score" in done.stdout
    assert (
        done.stderr
        == "module mine cannot be imported, its tasks are not served: ImportError: no such thing\n"
    )
    assert "dispatcher" not in run("tasks", replies=[tasks(mine="ImportError")]).stderr


def test_a_task_is_described_with_its_parameters_and_a_command_to_call_it(run: Run) -> None:
    done = run("tasks", "my.score", replies=[TASK])
    assert done.stdout.splitlines() == [
        "my.score",
        "",
        "  Score rows.",
        "",
        "  More about it.",
        "",
        "  PARAMETER  TYPE                       DEFAULT",
        "  rows       array of Point             (must be given)",
        "    x        number                     (must be given)",
        "    of       Point | null               null",
        "  limit      integer >= 1 <= 1,000,000  5",
        '  mode       "fast" | "exact"           "fast"',
        "  name       string | null              null",
        "",
        "  OPTION   VALUE",
        "  timeout  60.0",
        "  retries  0",
        "",
        "  jobrunner submit my.score 'rows=[{\"x\": 1.0}]' --follow",
    ]


def test_for_a_script_tasks_are_json(run: Run) -> None:
    assert json.loads(run("tasks", "my.score", "--json", replies=[TASK]).stdout) == TASK
    assert json.loads(run("tasks", "--json", replies=[tasks(TASK)]).stdout) == [TASK]


# -- errors --------------------------------------------------------------------------------------

TALKING = [
    ["submit", "t"],
    ["show", "1"],
    ["show", "1", "--follow"],
    ["list"],
    ["wait", "1"],
    ["log", "1"],
    ["log", "1", "--follow"],
    ["partials", "1"],
    ["partials", "1", "--follow"],
    ["attempts", "1"],
    ["cancel", "1"],
    ["retry", "1"],
    ["delete", "1"],
    ["tasks"],
    ["queues"],
    ["queues", "pause", "q"],
    ["top"],
]


@pytest.mark.parametrize("arguments", TALKING)
def test_a_problem_ends_a_command_with_one_line_on_stderr(run: Run, arguments: list[str]) -> None:
    done = run(*arguments, replies=[Reply({"title": "No", "detail": "there is no job 1"}, status=404)])
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "Error: there is no job 1\n")


@pytest.mark.parametrize("arguments", TALKING)
def test_an_api_that_is_not_there_ends_a_command_with_status_1_and_the_remedy(
    run: Run, arguments: list[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = run(*arguments, "--url", url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: nothing answers at {url}: start it with `jobrunner serve`")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", TALKING)
@pytest.mark.parametrize(
    ("token", "what"), [(None, "put it into JOBRUNNER_TOKEN"), ("abc", "is wrong or was revoked")]
)
def test_who_is_locked_out_is_told_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], token: str | None, what: str
) -> None:
    monkeypatch.delenv("JOBRUNNER_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("JOBRUNNER_TOKEN", token)
    done = run(*arguments, replies=[Reply({"title": "No", "detail": "send a token"}, status=401)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: send a token: ")
    assert what in done.stderr
    assert "`jobrunner token create NAME --scope submit`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", TALKING)
def test_an_address_that_is_none_ends_a_command_with_status_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments, "--url", "ftp://x")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: url = 'ftp://x' (from --url or JOBRUNNER_URL): must be ")


def test_what_the_terminal_cannot_show_is_escaped(server: Server) -> None:
    server.replies = [Reply(job(params={"name": "Zoë →"}))]
    done = subprocess.run(
        command("show", "42", "--url", server.url),
        env=environ(PYTHONIOENCODING="latin-1"),
        capture_output=True,
        encoding="latin-1",
        check=True,
    )
    assert '{"name": "Zoë \\u2192"}' in done.stdout


def test_ctrl_c_while_the_api_thinks_ends_a_command_with_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asking = subprocess.Popen(
            command("list", "--url", f"127.0.0.1:{silent.getsockname()[1]}"),
            env=environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        connection, _ = silent.accept()
        with connection:
            asking.send_signal(signal.SIGINT)
            assert asking.communicate(timeout=60) == (b"", b"")
    assert asking.returncode == 130
