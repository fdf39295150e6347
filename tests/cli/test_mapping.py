"""Map jobs at the command line: what is sent, and how far they are, their values and items, for people and scripts."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

from jobrunner.cli.bar import Bar, Bars
from jobrunner.client import JobData
from jobrunner.client.following import News
from tests.cli.scripted import ERROR, Reply, Server, ended, items, job, lines, running, swept

Run = Callable[..., Result]
QUEUED = swept(job())
#: why a map job failed, as the API tells it
FAILED = {**ERROR, "message": "2 of 1000 items failed, the first is item 17: ValueError: no"}
HALF: dict[str, Any] = {"items": 1_000_000, "done": 499_000, "failed": 1000, "per_second": 12_345.6}


# -- submitting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["n=0..10"], {"n": {"range": [0, 10, 1]}}),
        (["n=-5..10..5"], {"n": {"range": [-5, 10, 5]}}),
        (["n=9..0..-2"], {"n": {"range": [9, 0, -2]}}),
        (["n=[1, 2]"], {"n": [1, 2]}),
        (['n={"range": [0, 5]}'], {"n": {"range": [0, 5]}}),
        (["b=0..2", 'a=["x"]'], {"b": {"range": [0, 2, 1]}, "a": ["x"]}),
        (["n=@list.json"], {"n": [1, "two"]}),
        (["n=@lines"], {"n": [1, "two words", None]}),
        (["@objects.json"], [{"n": 1}, {"n": 2}]),
        (["@objects.ndjson"], [{"n": 1}, {"n": 2}]),
        (["@axes.json"], {"n": [1, 2]}),
        (["n=@-"], {"n": [7]}),
    ],
)
def test_items_are_ranges_lists_or_what_a_file_holds(
    run: Run, server: Server, tmp_path: Path, arguments: list[str], sent: Any
) -> None:
    files = {
        "list.json": '[1,\n "two"]\n',
        "lines": "1\ntwo words\n\nnull\n",
        "objects.json": '[{"n": 1},\n {"n": 2}]',
        "objects.ndjson": '{"n": 1}\n{"n": 2}\n',
        "axes.json": '{"n":\n [1, 2]}',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    words = [word for one in arguments for word in ("--map", one)]
    done = run("submit", "a.b", "who=me", *words, replies=[QUEUED], input="7\n")
    assert (done.exit_code, done.stdout) == (0, "job 42 queued: waiting for a worker\n")
    assert list(server.requests[0].body["map"]) == list(sent)  # the last axis runs fastest
    assert server.requests[0].body == {"task": "a.b", "params": {"who": "me"}, "map": sent}


def test_options_of_a_map_job_are_sent_as_the_api_has_them(run: Run, server: Server) -> None:
    options = ["--reduce=a.total", "--max-failed=0", "--max-parallel=2", "--chunk-size=10", "--retries=1"]
    run("submit", "a.b", "--map=n=0..5", *options, replies=[QUEUED])
    told = {"reduce": "a.total", "max_failed": 0, "max_parallel": 2, "chunk_size": 10, "retries": 1}
    assert server.requests[0].body == {
        "task": "a.b",
        "params": {},
        "map": {"n": {"range": [0, 5, 1]}},
        **told,
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--map", "n"], "'n' is not KEY=VALUE"),
        (
            ["--map", "n=5"],
            "--map n: '5' says no values: write a range such as 0..1000, a JSON list, or @FILE",
        ),
        (["--map", "n=0...5"], "says no values"),
        (["--map", "n=0..5..0"], "says no values"),
        (["--map", "n=0..5", "--map", "n=[1]"], "--map n is given twice"),
        (["--map", "@a", "--map", "n=[1]"], "--map @a names whole items: give no other --map"),
        (["--map", "@missing"], "'missing' cannot be read"),
        (["--map", "n=@missing"], "'missing' cannot be read"),
        (["--map", "n=0..5", "--max-failed=-1"], "-1 is not in the range"),
        (["--map", "n=0..5", "--chunk-size=0"], "0 is not in the range"),
    ],
)
def test_what_says_no_items_is_a_usage_error_before_anything_is_sent(
    run: Run, server: Server, arguments: list[str], why: str
) -> None:
    done = run("submit", "a.b", *arguments)
    assert (done.exit_code, done.stdout, server.requests) == (2, "", [])
    assert why in done.stderr


# -- how far it is -------------------------------------------------------------------------------


def test_a_map_job_is_followed_without_its_values_and_its_figures_are_shown(run: Run) -> None:
    told = {"items": 4000, "done": 1200, "failed": 3, "per_second": 1500.4, "eta_seconds": 90}
    progress = {"done": 1203, "total": 4000, "message": "item 17 has failed: ValueError: no"}
    replies = [
        QUEUED,
        QUEUED,
        swept(running(5, partials=1200, progress=progress), **told),
        swept(ended("succeeded", 6, partials=4000), items=4000, done=4000, per_second=1600.0),
    ]
    done = run("submit", "a.b", "--map", "n=0..4000", "--follow", replies=replies)
    assert done.exit_code == 0
    figures = "1,203 of 4,000 items, 3 failed, 1,500 a second, 1.5 min left"
    assert done.stdout.splitlines() == [
        "job 42 queued: waiting for a worker",
        "job 42 running",
        f"progress: {figures}, item 17 has failed: ValueError: no",
        "job 42 succeeded after 1.25 s",
        "result: 4,000 values (jobrunner result 42)",
    ]


def test_a_map_job_that_failed_ends_the_follower_with_1_and_what_was_reduced_is_shown(run: Run) -> None:
    failed = swept(ended("failed", 6, error=FAILED), items=1000, done=998, failed=2)
    done = run("show", "42", "--follow", replies=[QUEUED, failed])
    assert done.exit_code == 1
    assert "\n2 of 1000 items failed, the first is item 17: ValueError: no" in done.stdout
    reduced = swept(ended("succeeded", 6, result=55), done=3, reduce={"task": "a.total", "params": {}})
    assert run("show", "42", "--follow", replies=[QUEUED, reduced]).stdout.splitlines()[-1] == "result: 55"


def test_a_map_job_is_shown_with_what_it_was_asked(run: Run) -> None:
    reduce = {"task": "a.total", "params": {"start": 5}}
    told = {**HALF, "running": 2000, "eta_seconds": 40.5, "max_failed": 2000, "reduce": reduce}
    shown = run("show", "42", replies=[swept(running(7, partials=499_000), **told)]).stdout.splitlines()
    assert shown[-5:] == [
        '  reduce     a.total {"start": 5}',
        "  limits     max_failed 2,000",
        "  progress   500,000 of 1,000,000 items, 1,000 failed, 12,346 a second, 40.5 s left",
        "  in hand    2,000",
        "  failed     jobrunner items 42 --state failed",
    ]


def test_a_list_and_a_wait_tell_of_map_jobs_in_short(run: Run) -> None:
    progress = {"done": 500_000, "total": 1_000_000, "message": None}
    now = swept(running(7, progress=progress), **{**HALF, "failed": 0, "done": 500_000})
    done = swept(ended("succeeded", 6), done=3, per_second=3.0)
    listed = run("list", replies=[{"items": [now, done], "next": None}]).stdout.splitlines()
    assert listed[1].endswith("500,000 of 1,000,000 items, 12,346 a second")
    assert listed[2].endswith("1.25 s  result: 3 values (jobrunner result 42)")
    waited = run("wait", "42", replies=[done])
    assert (waited.exit_code, waited.stdout) == (
        0,
        "job 42 succeeded after 1.25 s: 3 of 3 items, 3.0 a second\n",
    )
    failed = run("wait", "42", replies=[swept(ended("failed", 6, error=FAILED), failed=2)])
    assert failed.exit_code == 1
    assert "the first is item 17" in failed.stdout


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Bars, " 50% running"),
        (Bar, "job 42 ━━━━━━━━━━            50%, 1,000 failed, 12,346/s, 40.5 s left running"),
    ],
)
def test_a_bar_shows_the_share_of_the_items_and_the_time_left(kind: type[Bars], wanted: str) -> None:
    progress = {"done": 500_000, "total": 1_000_000, "message": "item 17 has failed"}
    told: JobData = swept(running(7, progress=progress), **HALF, eta_seconds=40.5)  # type: ignore[assignment]
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=True, color_system=None, highlight=False)
    with kind(console) as bars:
        bars.show(News(told, [], is_last=False))
    assert wanted in screen.getvalue()


# -- what came of it -----------------------------------------------------------------------------


def test_a_result_is_json_on_a_line_and_of_a_map_job_each_value(run: Run, server: Server) -> None:
    done = run("result", "42", replies=[ended("succeeded", 6, result={"a": "ü"})])
    assert (done.exit_code, json.loads(done.stdout), done.stdout.count("\n")) == (0, {"a": "ü"}, 1)
    swept_ = swept(ended("succeeded", 6), done=3)
    done = run("result", "42", replies=[swept_, lines(1, [2], "three"), swept_])
    assert (done.exit_code, done.stdout) == (0, '1\n[2]\n"three"\n')
    assert server.requests[-2].path == "/jobs/42/result"


@pytest.mark.parametrize(
    ("arguments", "last", "status", "said"),
    [
        ([], swept(ended("failed", 6, error=FAILED)), 1, "2 of 1000 items failed"),
        ([], swept(ended("failed", 6, error=FAILED)), 1, "after 1.25 s: 2 of 1000"),
        ([], ended("failed", 6, error=ERROR), 1, "job 42 failed after 1.25 s: ValueError: no"),
        ([], ended("cancelled", 6), 3, "job 42 cancelled after 1.25 s"),
        (["--timeout=0"], running(6), 124, "time is up: job 42 running"),
    ],
)
def test_where_there_is_no_result_the_status_tells_why(
    run: Run, arguments: list[str], last: dict[str, Any], status: int, said: str
) -> None:
    done = run("result", "42", *arguments, replies=[running(2), last])
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr


def test_items_are_a_table_of_some_or_lines_of_all(run: Run, server: Server) -> None:
    told = items(1, ERROR, "x" * 60)["items"]
    done = run("items", "42", "--limit=2", "--state=failed", "--after=5", replies=[lines(*told)])
    assert done.stdout.splitlines() == [
        "INDEX  STATE      PARAMS    VALUE OR ERROR",
        '0      succeeded  {"n": 0}  1',
        '1      failed     {"n": 1}  ValueError: no',
    ]
    assert done.stderr == "there are more: --after 1, or --limit, or --json for all\n"
    assert server.requests[0].path == "/jobs/42/items?state=failed&after=5"
    whole = run("items", "42", "--json", replies=[lines(*told), items()])
    assert [json.loads(line) for line in whole.stdout.splitlines()] == told


def test_the_remedy_at_the_end_of_an_error_is_shown(run: Run) -> None:
    why = (
        "the value comes to 2.0 MB of JSON, max_partial_bytes is 1048576 (1.0 MB): "
        "write it to a file and give back its path, or raise the limit"
    )
    error = {"kind": "unserializable", "type": "jobrunner.errors.UnserializableError", "message": why}
    done = run("items", "42", replies=[lines(*items(error, "x" * 60)["items"]), items()])
    assert done.stdout.splitlines()[1:] == [
        f'0      failed     {{"n": 0}}  unserializable: {why}',
        f'1      succeeded  {{"n": 1}}  "{"x" * 48}…',
    ]


def test_values_are_partial_results_with_an_index(run: Run) -> None:
    value = {"seq": 4, "attempt": 1, "at": "2026-11-23T01:02:03Z", "value": 5, "index": 17}
    page = {"items": [], "next_after": 4, "complete": True}
    done = run("partials", "42", "--follow", "--json", replies=[QUEUED, lines(value), page])
    assert json.loads(done.stdout) == value


def test_items_of_what_is_no_map_job_are_refused_on_one_line(run: Run) -> None:
    problem = {"title": "The job is no map job", "detail": "job 42 is no map job: it has no items"}
    for more in ((), ("--json",)):
        done = run("items", "42", *more, replies=[Reply(problem, status=409)])
        assert (done.exit_code, done.stderr) == (1, "Error: job 42 is no map job: it has no items\n")
        assert done.stdout == ""


def test_only_what_failed_is_tried_again(run: Run, server: Server) -> None:
    done = run("retry", "42", "--only-failed", replies=[QUEUED])
    assert (done.exit_code, server.requests[0].body) == (0, {"only": "failed"})
