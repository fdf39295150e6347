"""Jobs and their values as lines of text, for people."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jobrunner.answers import Failure
from jobrunner.client import AttemptData, JobData, PartialData
from jobrunner.lifecycle import FINAL

_LONGEST_FAILURE: Final = 200  #: characters, where a failure has one line


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
    message = f", {said['message']}" if said["message"] else ""
    return f"{number(said['done'])}{total}{message}"


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
    if job["state"] == "succeeded":
        yield f"result: {value(job['result'], most)}"
    error = job["error"]
    if error is not None:
        yield f"{error['kind']}: {error['message']}"
        for name in ("traceback", "log_tail"):
            yield from str(error.get(name) or "").splitlines()


def failure(error: Failure) -> str:
    """Say on one line what went wrong: `exception: ValueError: no`."""
    said = (error["kind"], error.get("type"), error["message"])
    return short(": ".join(word for word in said if word), _LONGEST_FAILURE)


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
    return state(job) if job["error"] is None else f"{state(job)}: {failure(job['error'])}"


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
        "progress": progress(job),
        "partials": str(job["partials"]) if job["partials"] else "",
    }
    yield from (f"  {name:10} {text}" for name, text in facts.items() if text)
    yield from (f"  {line}" for line in outcome(job))


def _at(text: str | None) -> str:
    return "" if text is None else f"{moment(text)} UTC"
