"""`jobrunner top`: what it shows, where, and how it ends."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from jobrunner.cli import words
from jobrunner.cli.board import frame
from jobrunner.cli.flow import Flow, sparkline
from jobrunner.cli.top import _View
from jobrunner.client import Client
from jobrunner.figures import Stats
from tests.cli.running import Served, command, descendants, environ, serving
from tests.cli.scripted import Reply, Server, job, swept
from tests.cli.terminal import Terminal
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)

# -- what happened between two looks -------------------------------------------------------------


def _slot(worker: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "worker": worker,
        "pid": 4242,
        "process_pid": 4243,
        "job_id": None,
        "attempt": None,
        "done": 0,
        "failed": 0,
        "partials": 0,
        "busy_seconds": 0.0,
        "peak_memory_bytes": None,
        "cpu_seconds": None,
        **more,
    }


def _dispatcher(*slots: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "host": "here",
        "pid": 4241,
        "started_at": "2026-11-23T01:00:00Z",
        "heartbeat_age_seconds": 0.0,
        "alive": True,
        "workers": len(slots),
        "slots": list(slots),
        **more,
    }


def _stats(second: float, *dispatchers: dict[str, Any], **more: Any) -> Stats:
    minutes, seconds = divmod(second, 60)
    rate = {"failed_per_second": 0.0, "partials_per_second": 12345.6, "busy_workers": 1.53}
    told = {
        "at": f"2026-11-23T01:{minutes:02.0f}:{seconds:09.6f}Z",
        "jobs": {"queued": 1234, "running": 2, "succeeded": 5, "failed": 0, "cancelled": 0},
        "oldest_queued_seconds": 90.0,
        "rates": [{"minutes": minutes, "done_per_second": 0.05, **rate} for minutes in (1, 5, 15)],
        "dispatchers": list(dispatchers),
        **more,
    }
    return cast(Stats, told)


def test_rates_are_taken_between_heartbeats_not_between_looks() -> None:
    flow = Flow()
    flow.note(_stats(100, _dispatcher(_slot(done=40, busy_seconds=50.0))))
    assert flow.busy_share(1, 0) == 0.5, "of the time since its dispatcher started"
    flow.note(_stats(100.6, _dispatcher(_slot(done=40, busy_seconds=50.0), heartbeat_age_seconds=0.6)))
    flow.note(_stats(101.2, _dispatcher(_slot(done=60, busy_seconds=51.0), heartbeat_age_seconds=0.2)))
    flow.note(_stats(101.8, _dispatcher(_slot(done=60, busy_seconds=51.0), heartbeat_age_seconds=0.8)))
    assert [round(rate, 6) for rate in flow.done_per_second] == [0, 20, 20]
    assert flow.busy_share(1, 0) == 1.0


def test_a_dispatcher_that_died_or_came_counts_from_then_on() -> None:
    flow = Flow()
    flow.note(_stats(10, _dispatcher(_slot(done=100))))
    flow.note(_stats(12, _dispatcher(_slot(done=120)), _dispatcher(_slot(done=1000), id=2)))
    flow.note(_stats(14, _dispatcher(_slot(done=140), alive=False), _dispatcher(_slot(done=1010), id=2)))
    assert [round(rate, 6) for rate in flow.done_per_second] == [10, 5]


def test_a_sparkline_is_as_wide_as_its_room_and_as_high_as_its_highest() -> None:
    assert sparkline([0, 0], 10) == "▁▁"
    assert sparkline([9, 0, 1, 2, 4, 8], 5) == "▁▂▃▅█"
    assert not sparkline([], 10)
    assert not sparkline([1, 2], 0)


# -- the frame -----------------------------------------------------------------------------------


def _lines(stats: Stats, flow: Flow | None = None, width: int = 80, **more: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(frame(stats, flow or Flow(), more.pop("tasks", {}), "http://x:1", **more))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_frame_tells_counts_rates_and_what_every_worker_does_in_80_columns() -> None:
    stats = _stats(
        100,
        _dispatcher(
            _slot(0, job_id=123456, done=1234, failed=2, partials=5678901, busy_seconds=50.0),
            _slot(1, pid=4444),
            heartbeat_age_seconds=0.4,
        ),
    )
    flow = Flow()
    flow.note(stats)
    lines = _lines(stats, flow, tasks={123456: "[bold]mypackage.tasks.of_a_long_name"})
    assert lines == [
        "jobrunner at http://x:1, 2026-11-23 01:01:40 UTC",
        "queued 1,234 (oldest 1.5 min)  running 2  succeeded 5  failed 0  cancelled 0",
        "",
        "mean of the last             1 min     5 min    15 min",
        "done a second                 0.05      0.05      0.05",
        "failed a second                  0         0         0",
        "partial results a second    12,346    12,346    12,346",
        "busy workers                   1.5       1.5       1.5",
        "",
        "dispatcher 1 on here, pid 4241: alive, heartbeat 0.4 s ago",
        "WORKER   PID     JOB  TASK                        BUSY   DONE  FAILED   PARTIALS",
        "     0  4242  123456  [bold]mypackage.tasks.of_…   50%  1,234       2  5,678,901",
        "     1  4444       -                                0%      0       0          0",
    ]


def test_rates_have_two_figures_or_more_and_no_exponent() -> None:
    given = 0.0, 0.000028, 0.00123, 0.5, 1.0, 99.0, 1234.5
    assert [words.rate(one) for one in given] == ["0", "0", "0.0012", "0.5", "1.0", "99.0", "1,234"]


def test_a_dispatcher_that_is_not_alive_is_marked_and_its_workers_are_not_shown() -> None:
    lines = _lines(_stats(100, _dispatcher(_slot(), alive=False, heartbeat_age_seconds=34.0)))
    assert lines[-1] == "dispatcher 1 on here, pid 4241: NOT ALIVE, no heartbeat for 34.0 s"
    assert _lines(_stats(100))[-1] == "no dispatcher runs: jobs wait; `jobrunner serve` starts one"


def test_map_jobs_that_run_are_shown_with_how_much_is_done_and_the_time_left_or_why_there_is_none() -> None:
    told = {"items": 1_000_000, "done": 249_990, "failed": 10, "per_second": 12_345.6, "eta_seconds": 61.0}
    progress = {"done": 250_000, "total": 1_000_000, "message": None}
    seven = job(id=7, task="a.b", progress=progress)
    maps = [
        swept(seven | {"reason": None}, **told),
        swept(job(id=8, reason=None)),
        swept(seven | {"reason": "queue paused"}, **told),
    ]
    lines = _lines(_stats(100), maps=maps)
    start = lines.index("MAP JOB  TASK                    DONE      ITEMS  FAILED  A SECOND          LEFT")
    assert lines[start + 1 : start + 4] == [
        "      7  a.b                      25%  1,000,000      10    12,346       1.0 min",
        "      8  examples.primes                       3       0",
        "      7  a.b                      25%  1,000,000      10    12,346  queue paused",
    ]


def test_trouble_stands_above_what_was_seen_last() -> None:
    lines = _lines(_stats(100), trouble="the API is away")
    assert lines[1] == "the API is away"
    assert lines[2].startswith("queued 1,234")


def test_the_sparkline_takes_the_room_that_is_left() -> None:
    flow = Flow()
    for second in range(100):
        flow.note(_stats(second, _dispatcher(_slot(done=second * second))))
    (line,) = [line for line in _lines(_stats(100), flow) if "█" in line]
    assert len(line) == 80
    assert line.endswith("█ 197 done a second, 197 at most")


def test_map_jobs_are_looked_at_again_each_time_and_other_jobs_once(server: Server, client: Client) -> None:
    def looks(*replies: Any) -> list[str]:
        server.requests.clear()
        server.replies = [Reply(one) for one in replies]
        view.look()
        return [request.path.partition("?")[0] for request in server.requests]

    view = _View(client)
    running = {"queued": 0, "running": 1}
    busy = _stats(100, _dispatcher(_slot(job_id=7)), jobs=running)
    page = {"items": [swept(job(id=7, state="running"), done=1)], "next": None}
    assert looks(busy, page) == ["/stats", "/jobs"]
    assert looks(busy, page) == ["/stats", "/jobs"]
    assert looks(busy, {"items": [job(id=7, state="running")], "next": None}) == ["/stats", "/jobs"]
    assert looks(busy) == ["/stats"]


def test_a_map_job_that_is_paused_is_found_though_no_worker_has_it(server: Server, client: Client) -> None:
    idle = _stats(100, _dispatcher(_slot()), jobs={"queued": 0, "running": 1})
    paused = swept(job(id=7, task="a.b", state="running", reason="queue paused"))
    server.replies = [Reply(idle), Reply({"items": [paused], "next": None})]
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(_View(client).look())
    assert isinstance(console.file, io.StringIO)
    (row,) = [line for line in console.file.getvalue().splitlines() if " a.b " in line]
    assert row.endswith(" queue paused")


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    flags = ("--tasks=probes", "--grace-seconds=0.5", "--drain-seconds=0")
    with serving(tmp_path_factory.mktemp("served"), *flags) as running:
        yield running.wait_until_ready()


def test_without_a_terminal_it_prints_one_frame(served: Served, tmp_path: Path) -> None:
    job = served.run("submit", "probes.steps", f"folder={tmp_path}").stdout.split()[1]
    eventually(lambda: served.run("show", job).stdout.startswith(f"job {job} running"), 30)

    def frame_with_job() -> list[str]:  # the heartbeat tells of it within a second
        done = served.run("top")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines() if "probes.steps" in done.stdout else []

    lines = eventually(frame_with_job, 30)
    assert lines[0].startswith(f"jobrunner at {served.url}, ")
    assert lines[1].startswith("queued 0  running 1 ")
    (row,) = [line.split() for line in lines if "probes.steps" in line]
    assert row[2:4] == [job, "probes.steps"]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    served.run("cancel", job, "--grace=0")


@pytest.mark.parametrize("ending", ["\x03", "SIGTERM"])
def test_in_a_terminal_it_goes_on_until_it_is_told_to_stop_and_leaves_the_terminal_as_it_was(
    served: Served, ending: str
) -> None:
    env = environ(JOBRUNNER_URL=served.url, TERM="xterm-256color")
    with Terminal(command("top", "--interval=0.2"), env) as terminal:
        shown = terminal.wait_until_it_shows("dispatcher 1 on ")
        shown = terminal.wait_until_it_shows("done a second, ", shown)
        if ending == "\x03":
            terminal.enter(ending)
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(30) == 0
        eventually(lambda: "\x1b[?1049l" in terminal.shown, 30)  # back from the alternate screen
        last = terminal.shown.rpartition("\x1b[?1049h")[2]
        assert "\x1b[?25h" in last  # and the cursor is there
        assert "Traceback" not in last
        assert "Aborted" not in last


def test_while_the_api_is_away_it_says_so_and_it_goes_on_when_it_is_back(served: Served) -> None:
    env = environ(JOBRUNNER_URL=served.url, TERM="xterm-256color")
    with Terminal(command("top", "--interval=0.1"), env) as terminal:
        shown = terminal.wait_until_it_shows("dispatcher 1 on ")
        os.kill(served.process.pid, signal.SIGSTOP)  # nobody starts the API again for now
        try:
            api = served.parts()["api"]
            for pid in (api, *descendants(api)):
                os.kill(pid, signal.SIGKILL)
            shown = terminal.wait_until_it_shows("the API is away, trying again: nothing answers at", shown)
        finally:
            os.kill(served.process.pid, signal.SIGCONT)
        eventually(lambda: "the API is away" not in terminal.shown.split("\x1b[H")[-2], 30)
        terminal.enter("\x03")
        assert terminal.process.wait(30) == 0
