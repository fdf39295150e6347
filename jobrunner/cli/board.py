"""What `jobrunner top` shows: one frame, of what `GET /stats` told."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from jobrunner.cli import words
from jobrunner.cli.flow import Flow, sparkline
from jobrunner.client import JobData
from jobrunner.figures import Dispatcher, Slot, Stats
from jobrunner.lifecycle import State

_RATES: Final = {
    "done a second": "done_per_second",
    "failed a second": "failed_per_second",
    "partial results a second": "partials_per_second",
    "busy workers": "busy_workers",
}
_COLOURS: Final = {"queued": "yellow", "running": "cyan", "succeeded": "green", "failed": "red"}


def frame(
    stats: Stats,
    flow: Flow,
    tasks: Mapping[int, str],
    url: str,
    *,
    trouble: str = "",
    maps: Sequence[JobData] = (),
) -> RenderableType:
    """Return what is shown of one look.

    Args:
        stats: what the API told.
        flow: what happened between the looks so far.
        tasks: names by job id, as far as they are known.
        url: of the API.
        trouble: why there is nothing newer.
        maps: map jobs that run.
    """
    head = Text(f"jobrunner at {url}, {words.moment(stats['at'])} UTC", style="bold")
    parts: list[RenderableType] = [head]
    if trouble:
        parts.append(Text(trouble, style="bold red"))
    parts += [_counts(stats), Text(), _rates(stats), _Sparkline(flow)]
    if maps:
        parts += [Text(), _maps(maps)]
    if not stats["dispatchers"]:
        parts += [
            Text(),
            Text("no dispatcher runs: jobs wait; `jobrunner serve` starts one", style="bold red"),
        ]
    for one in stats["dispatchers"]:
        parts += [Text(), *_dispatcher(one, flow, tasks)]
    return Group(*parts)


def _counts(stats: Stats) -> Text:
    oldest = stats["oldest_queued_seconds"]
    told = []
    for state, count in stats["jobs"].items():
        one = Text(f"{state} ")
        one.append(words.number(count), style=_COLOURS.get(state, "") if count else "dim")
        if state == State.QUEUED and oldest is not None:
            one.append(f" (oldest {words.span(oldest)})")
        told.append(one)
    return Text("  ").join(told)


def _rates(stats: Stats) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="dim")
    for _ in stats["rates"]:
        table.add_column(justify="right", min_width=7)
    table.add_row("mean of the last", *(f"{one['minutes']} min" for one in stats["rates"]))
    for told, key in _RATES.items():
        table.add_row(told, *(words.rate(one[key]) for one in stats["rates"]))  # type: ignore[literal-required]
    return table


class _Sparkline:
    """Jobs done per second since this runs, as wide as there is room."""

    def __init__(self, flow: Flow) -> None:
        self._values = flow.done_per_second

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._values:
            return
        told = f" {words.rate(self._values[-1])} done a second, {words.rate(max(self._values))} at most"
        can_draw = console.encoding.startswith("utf")
        line = sparkline(self._values, max(0, options.max_width - len(told))) if can_draw else ""
        yield Text(line, style="green", no_wrap=True, end="")
        yield Text(told)


def _maps(jobs: Sequence[JobData]) -> Table:
    table = _table(("MAP JOB",), ("DONE", "ITEMS", "FAILED", "A SECOND", "LEFT"))
    for job in jobs:
        told = job["map"]
        if told is None:
            continue
        per_second, left = told["per_second"], told["eta_seconds"]
        cells = (
            str(job["id"]),
            job["task"],
            words.percent(job),
            words.number(told["items"]),
            words.number(told["failed"]),
            "" if per_second is None else words.rate(per_second),
            job["reason"] or ("" if left is None else words.span(left)),
        )
        table.add_row(*map(Text, cells))
    return table


def _table(first: Sequence[str], last: Sequence[str]) -> Table:
    """Return a table with a column for a task's name, which gives way, between these two."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name in first:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("TASK", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in last:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _dispatcher(one: Dispatcher, flow: Flow, tasks: Mapping[int, str]) -> Iterator[RenderableType]:
    who = f"dispatcher {one['id']} on {one['host']}, pid {one['pid']}"
    age = words.span(one["heartbeat_age_seconds"])
    if not one["alive"]:
        yield Text(f"{who}: NOT ALIVE, no heartbeat for {age}", style="bold red")
        return
    yield Text(f"{who}: alive, heartbeat {age} ago")
    if one["slots"]:
        yield _slots(one, flow, tasks)


def _slots(one: Dispatcher, flow: Flow, tasks: Mapping[int, str]) -> Table:
    table = _table(("WORKER", "PID", "JOB"), ("BUSY", "DONE", "FAILED", "PARTIALS"))
    for slot in one["slots"]:
        table.add_row(*_row(slot, flow.busy_share(one["id"], slot["worker"]), tasks))
    return table


def _row(slot: Slot, share: float | None, tasks: Mapping[int, str]) -> tuple[Text, ...]:
    job = slot["job_id"]
    cells = (
        str(slot["worker"]),
        str(slot["pid"]),
        "-" if job is None else str(job),
        "" if job is None else tasks.get(job, ""),
        "" if share is None else f"{share:.0%}",
        words.number(slot["done"]),
        words.number(slot["failed"]),
        words.number(slot["partials"]),
    )
    return tuple(map(Text, cells))  # as they are: no markup
