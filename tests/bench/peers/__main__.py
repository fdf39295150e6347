"""`python -m tests.bench.peers`: jobrunner beside huey, celery and a bare Pool, in one run on one machine.

The two sides take turns, and who begins changes from run to run, for machines differ and drift; a ratio is that of
one run.  Each measurement starts its side afresh on an empty store; starting it is not counted.  How much is done is
read from outside, from the store in which the results are.
"""

import argparse
import json
import os
import platform
import signal
import sqlite3
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.bench import work
from tests.bench.__main__ import WORKERS
from tests.bench.peers.cases import CASES, Case, Figure, Sizes
from tests.bench.peers.environment import made

NOTES: Final = (
    f"all: {WORKERS} worker processes, everything on one machine, stores on the same disk",
    "ours: `jobrunner serve`, defaults; POST /jobs/batch; jobs are fsynced before the 202 and when they end",
    "huey: SqliteHuey(fsync=True, store_none=True), huey_consumer -k process -d 0.01 -m 0.05; it has no batches",
    "celery: task_acks_late, results in redis, worker -P prefork, else defaults; it has no batches",
    "redis: redis-server --save '' --appendonly no, so nothing of celery's survives a crash",
    "Pool: forkserver; nothing is stored",
    "CPU work: a fixed number of rounds of arithmetic, calibrated once at the start, the same function on both sides",
    "pick-up: from when the submission returned to the task's first line, 200 of them; wait: 200, on one connection",
    "before these latencies either side has been idle for some seconds",
)


def main() -> None:
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and all that was started with it
    names = given.only or list(CASES)
    needed = any("huey" in CASES[name].peer or "celery" in CASES[name].peer for name in names)
    peers = made(given.venv) if needed else None
    sizes = Sizes(given.jobs, given.items, given.items // 50, given.jobs // 50)
    about = {
        "machine": _machine(),
        "peers": peers.versions() if peers else {},
        "notes": NOTES,
    } | sizes._asdict()
    found: dict[str, list[Figure]] = {name: [] for name in names}
    for run in range(given.runs):
        for name in names:
            figure = CASES[name].run(sizes, peers, run % 2 == 0)
            found[name].append(figure)
            print(f"run {run + 1}, {name}: {_short(figure)}", file=sys.stderr, flush=True)
            if given.json:  # as far as it has come
                given.json.write_text(json.dumps(about | {"cases": _as_json(found)}, indent=1) + "\n")
    print(_table(found, about))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--jobs", type=int, default=20_000, help="no-op jobs; of those of 50 ms a 50th")
    parser.add_argument("--items", type=int, default=1_000_000, help="no-op items; of those of 1 ms a 50th")
    parser.add_argument("--venv", type=Path, help="the peers' virtual environment; made if it is not there")
    parser.add_argument("--json", type=Path, help="file for all runs")
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load before": round(os.getloadavg()[0], 2),
        "rounds of work in 1 ms": work.rounds_in(1),
        "began": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _as_json(found: dict[str, list[Figure]]) -> dict[str, Any]:
    return {
        name: {
            "what": CASES[name].what,
            "unit": CASES[name].unit,
            "peer": CASES[name].peer,
            "bars": list(map(str, CASES[name].bars)),
            "runs": [{"ours": one.ours, "peer": one.peer, "ratio": one.ratio} for one in figures],
        }
        for name, figures in found.items()
    }


def _short(figure: Figure) -> str:
    return f"{_number(figure.ours)}, peer {_number(figure.peer)}, ratio {_number(figure.ratio)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _spread(values: list[float]) -> str:
    return f"{_number(statistics.median(values))} ({_number(min(values))}-{_number(max(values))})"


def _table(found: dict[str, list[Figure]], about: dict[str, Any]) -> str:
    """Return all figures, median (least-most), as a Markdown table with what must be known of them below."""
    head = ("name", "what", "ours", "peer", "ratio", "bar", "met")
    rows = [
        head,
        ("---",) * len(head),
        *(_row(name, CASES[name], runs) for name, runs in found.items() if runs),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    facts = [
        ", ".join(f"{key} {value}" for key, value in about[part].items()) for part in ("machine", "peers")
    ]
    beside = dict.fromkeys(f"peer of {name}: {CASES[name].peer}" for name in found)
    return "\n".join([*lines, "", *(f"* {line}" for line in (*facts, *beside, *NOTES) if line)])


def _row(name: str, case: Case, runs: list[Figure]) -> tuple[str, ...]:
    spreads = {of: [float(getattr(one, of)) for one in runs] for of in ("ours", "peer", "ratio")}
    met = [bar.is_met(statistics.median(spreads[bar.of])) for bar in case.bars]
    return (
        name,
        f"{case.what}, {case.unit}",
        *map(_spread, spreads.values()),
        " and ".join(map(str, case.bars)),
        "yes" if all(met) else "NO",
    )


if __name__ == "__main__":
    main()
