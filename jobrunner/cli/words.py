"""Jobs and their values as lines of text, for people."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jobrunner.answers import Failure
from jobrunner.client import AttemptData, JobData, MapData, PartialData
from jobrunner.client.errors import cause
from jobrunner.lifecycle import FINAL

_LONGEST_FAILURE: Final = 300  #: characters, where a failure has one line
_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60))


def value(given: Any, most: int | None = None) -> str:
    """Return `given` as JSON on one line; of more than `most` characters only the first."""
    text = json.dumps(given, ensure_ascii=False)
    if most is None or len(text) <= most:
        return text
    return f"{text[: max(0, most - 1)]}…"


def state(job: JobData) -> str:
    """Say which job it is, where it stands and why."""
    return f"job {job['id']} {standing(job)}"


def standing(job: JobData) -> str:
    """Say where the job stands and why."""
    if job["state"] in FINAL:
        ran = "" if job["ran_seconds"] is None else f" after {job['ran_seconds']:.3g} s"
        return f"{job['state']}{ran}"
    attempt = f", attempt {job['attempt']}" if job["state"] == "running" and job["attempt"] > 1 else ""
    why = f": {job['reason']}" if job["reason"] else ""
    return f"{job['state']}{attempt}{why}"


def partial(one: PartialData, most: int | None = None) -> str:
    """Show one partial result."""
    return f"partial: {value(one['value'], most)}"


def progress(job: JobData) -> str:
    """Say how far the job has come; an empty text if it has not said so itself."""
    said = job["progress"]
    if said is None:
        return ""
    total = "" if said["total"] is None else f" of {number(said['total'])}"
    done = f"{number(said['done'])}{total}" if job["map"] is None else items(job["map"])
    return f"{done}, {said['message']}" if said["message"] else done


def items(told: MapData) -> str:
    """Say how many items of a map job are done, how many of them failed, how fast it goes and how long it will take."""
    return _figures(
        f"{number(told['done'] + told['failed'])} of {number(told['items'])} items", told, " a second"
    )


def share(told: MapData) -> str:
    """Say the same as `items` beside a bar, where there is less room."""
    return _figures(f"{(told['done'] + told['failed']) / told['items']:4.0%}", told, "/s")


def _figures(done: str, told: MapData, each_second: str) -> str:
    per_second, eta_seconds = told["per_second"], told["eta_seconds"]
    said = [
        done,
        f"{number(told['failed'])} failed" if told["failed"] else "",
        "" if per_second is None else f"{rate(per_second)}{each_second}",
        "" if eta_seconds is None else f"{span(eta_seconds)} left",
    ]
    return ", ".join(filter(None, said))


def rate(given: float) -> str:
    """Return how many a second, for people; less than one in 1,000 s is none."""
    if given >= 1:
        return f"{given:,.0f}" if given >= 100 else f"{given:.1f}"
    return f"{given:.2g}" if given >= 0.001 else "0"


def span(seconds: float) -> str:
    """Return a time for people: `1.5 min`."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def percent(job: JobData) -> str:
    """Say how far the job has come as `7%`; an empty text if it has not said of how much."""
    said = job["progress"]
    if said is None or not said["total"]:
        return ""
    return f"{said['done'] / said['total']:4.0%}"


def number(given: float) -> str:
    """Return a number for people: `12,345`, `0.25`, `1e+13`."""
    return f"{int(given):,}" if given == int(given) and abs(given) < 1e12 else f"{given:,.6g}"


def outcome(job: JobData, most: int | None = None) -> Iterator[str]:
    """Show the result, or what went wrong; nothing if the job is not final."""
    told = job["map"]
    if job["state"] == "succeeded" and told is not None and told["reduce"] is None:
        yield f"result: {number(told['items'])} values (jobrunner result {job['id']})"
    elif job["state"] == "succeeded":
        yield f"result: {value(job['result'], most)}"
    error = job["error"]
    if error is not None:
        yield cause(error)
        for name in ("traceback", "log_tail"):
            yield from str(error.get(name) or "").splitlines()


def failure(error: Failure) -> str:
    """Say on one line what went wrong: `ValueError: no`."""
    return short(cause(error), _LONGEST_FAILURE)


def ended(one: AttemptData) -> str:
    """Say why an attempt is over."""
    why = str(one["outcome"]) if one["error"] is None else failure(one["error"])
    return f"attempt {one['attempt']} ended: {why}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Align the rows below their heads, two spaces apart."""
    cells = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def short(text: str, most: int) -> str:
    """Return `text` on one line, cut after `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def moment(text: str) -> str:
    """Return an RFC 3339 time to the second, in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def lasted(start: str, end: str | None) -> str:
    """Say how long it took from one RFC 3339 time to another; an empty text if it is not over."""
    if end is None:
        return ""
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.3g} s"


def ending(job: JobData) -> str:
    """Say on one line what became of a job that is final."""
    if job["error"] is not None:
        return f"{state(job)}: {failure(job['error'])}"
    return state(job) if job["map"] is None else f"{state(job)}: {items(job['map'])}"


def description(job: JobData) -> Iterator[str]:
    """Show what the job was given and what came of it."""
    facts = {
        "task": job["task"],
        "params": value(job["params"]),
        "labels": " ".join(f"{key}={text}" for key, text in job["labels"].items()),
        "submitted": _at(job["created_at"]),
        "due": _at(job["run_at"]),
        "started": _at(job["started_at"]),
        "finished": _at(job["finished_at"]),
        **_sweep(job),
    }
    yield from (f"  {name:10} {text}" for name, text in facts.items() if text)
    yield from (f"  {line}" for line in outcome(job))


def _sweep(job: JobData) -> dict[str, str]:
    """Return how far the job has come; of a map job, also what it was asked."""
    told = job["map"]
    if told is None:
        return {"progress": progress(job), "partials": str(job["partials"]) if job["partials"] else ""}
    reduce = told["reduce"]
    limits = {name: told[name] for name in _LIMITS}
    return {
        "reduce": "" if reduce is None else f"{reduce['task']} {value(reduce['params'])}",
        "limits": ", ".join(f"{name} {number(most)}" for name, most in limits.items() if most is not None),
        "progress": items(told),
        "in hand": number(told["running"]) if told["running"] else "",
        "failed": f"jobrunner items {job['id']} --state failed" if told["failed"] else "",
    }


_LIMITS: Final = ("max_failed", "max_parallel", "chunk_size")


def _at(text: str | None) -> str:
    return "" if text is None else f"{moment(text)} UTC"
