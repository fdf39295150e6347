"""The commands that look at what a job left, at queues and at tasks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tests.cli.scripted import Server, attempt

Run = Callable[..., Result]

# -- attempts ------------------------------------------------------------------------------------

RUNS = {"finished_at": None, "outcome": None, "error": None, "peak_memory_bytes": None, "cpu_seconds": None}


def test_attempts_are_listed_with_what_they_took_and_how_they_ended(run: Run, server: Server) -> None:
    listed = {"items": [attempt(1), attempt(2, **RUNS, worker=None)]}
    done = run("attempts", "42", replies=[listed])
    assert server.requests[0].path == "/jobs/42/attempts"
    assert done.stdout.splitlines() == [
        "ATTEMPT  STARTED (UTC)        RAN    CPU     MEMORY  DISPATCHER  WORKER  OUTCOME",
        "1        2026-11-23 01:02:03  2.5 s  1.25 s  3.0 MB  3           0       ValueError: no never",
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
    assert "is a dispatcher running" in run("tasks", replies=[tasks()]).stderr


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
