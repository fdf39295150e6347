"""What a terminal shows of jobs that are followed."""

import io
from typing import Any

from rich.console import Console

from jobrunner.cli.bar import Bar, Bars
from jobrunner.client.following import News
from tests.cli.scripted import job


def _news(*values: Any, last: bool = False, **changes: Any) -> News:
    partials: Any = [
        {"seq": seq, "attempt": 1, "at": "2026-11-23T01:02:03Z", "value": value}
        for seq, value in enumerate(values)
    ]
    told: Any = job(reason=None, attempt=1, **changes)
    return News(told, partials, last)


def _screen(kind: type[Bars], *all_news: News, width: int = 80) -> str:
    """Return all that was written to a terminal without colours."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, highlight=False)
    with kind(console) as bars:
        for news in all_news:
            bars.show(news)
    return screen.getvalue()


def _left(screen: str) -> list[str]:
    """Return the lines that were drawn last: one for each job."""
    return [line.rstrip() for line in screen.rpartition("\x1b[2K")[2].replace("\x1b[?25h", "").splitlines()]


PROGRESS = {"done": 5, "total": 20, "message": "five"}


def test_each_job_has_a_line_that_tells_its_share_and_its_state() -> None:
    running, queued, succeeded = _left(
        _screen(
            Bars,
            _news(id=1, state="running", progress=PROGRESS),
            _news(id=2, state="queued"),
            _news(id=3, state="succeeded", ran_seconds=0.5, result=1, last=True),
        )
    )
    assert "━" * 20 not in running
    assert running.endswith(" 25% running")
    assert queued.endswith(" queued")
    assert "━" * 20 in succeeded
    assert succeeded.endswith(" succeeded after 0.5 s")


def test_a_single_job_has_its_results_printed_and_its_progress_in_full() -> None:
    screen = _screen(
        Bar,
        _news({"n": 1}, "[bold]no markup[/bold]", state="running"),
        _news(state="running", progress=PROGRESS),
        _news(state="succeeded", ran_seconds=0.5, progress=PROGRESS, result=[1, 2], last=True),
    )
    printed = [line for line in screen.splitlines() if "partial: " in line or "result: " in line]
    assert [line.rpartition("\x1b[2K")[2].strip() for line in printed] == [
        'partial: {"n": 1}',
        'partial: "[bold]no markup[/bold]"',
        "result: [1, 2]",
    ]
    assert "5 of 20, five succeeded after 0.5 s" in screen


def test_a_long_partial_result_is_cut_to_the_width_of_the_terminal() -> None:
    screen = _screen(Bar, _news("x" * 200, state="running"), width=40)
    assert f'partial: "{"x" * 29}…' in screen
    assert "x" * 30 not in screen


def test_a_failure_is_printed_with_its_cause() -> None:
    error = {"kind": "timeout", "message": "too slow"}
    screen = _screen(Bar, _news(state="failed", ran_seconds=2.0, error=error, last=True))
    assert "timeout: too slow" in screen
    assert "failed after 2 s" in screen


def test_a_share_that_is_not_known_is_not_shown() -> None:
    assert "%" not in _left(_screen(Bars, _news(state="running", partials=3)))[-1]


def test_attempts_are_announced_above_the_bar_and_each_end_has_its_reason() -> None:
    error = {"kind": "crashed", "message": "killed by SIGSEGV"}
    ended: Any = [{"attempt": 1, "outcome": "crashed", "error": error}]
    first, second = _news(1, state="running"), _news(2, state="running")
    second.partials[0]["attempt"] = 2
    second.job["attempt"] = 2
    screen = _screen(Bar, first, second._replace(ended=ended), second._replace(partials=[]))
    lines = [line.rpartition("\x1b[2K")[2].strip() for line in screen.splitlines()]
    told = [line for line in lines if line.startswith(("partial", "attempt"))]
    assert told == ["partial: 1", "attempt 1 ended: crashed: killed by SIGSEGV", "attempt 2", "partial: 2"]
