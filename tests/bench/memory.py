"""`python -m tests.bench.memory`: whether a dispatcher grows with the jobs that it has run.

Runs no-op jobs in one `jobrunner serve`, and prints what each of its processes takes after few and after
more and more: resident memory (RSS), and proportional memory (PSS, of what is shared a part).
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

from jobrunner import kernel
from tests.bench.__main__ import Server, no_op_jobs


def processes(server: Server) -> dict[str, int]:
    """The pids of all that belongs to the dispatcher, by what they are."""
    (dispatcher,) = server.ask("GET", "/stats")["dispatchers"]
    named = {"dispatcher": int(dispatcher["pid"])}
    for slot in dispatcher["slots"]:
        named[f"worker {slot['worker']}"] = slot["pid"]
        named[f"job process {slot['worker']}"] = slot["process_pid"]
    forkserver = kernel.parent(dispatcher["slots"][0]["pid"])
    (named["result writer"],) = set(kernel.children(forkserver)) - set(named.values())
    return named | {"forkserver": forkserver}


def megabytes(server: Server, measure: Callable[[int], int]) -> dict[str, float]:
    return {name: measure(pid) / (1 << 20) for name, pid in processes(server).items()}


def _resident(pid: int) -> int:
    return kernel.usage([pid]).resident_bytes


def _proportional(pid: int) -> int:
    return kernel.proportional_bytes([pid])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    parser.add_argument(
        "--looks", type=int, nargs="+", default=[2_000, 20_000, 100_000, 200_000], help="after so many jobs"
    )
    looks = parser.parse_args().looks
    found: list[tuple[dict[str, float], dict[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as directory:
        server = Server(Path(directory))
        try:
            for before, after in itertools.pairwise([0, *looks]):
                no_op_jobs(server, after - before)
                found.append((megabytes(server, _resident), megabytes(server, _proportional)))
        finally:
            server.close()
    print("memory in MB after so many no-op jobs" + "".join(f"{look:>16,}" for look in looks))
    for name in found[0][0]:
        print(f"  {name:35}" + "".join(f"  RSS{rss[name]:5.1f} {pss[name]:5.1f}" for rss, pss in found))
    print(f"  {'all, proportional (PSS)':35}" + "".join(f"{sum(pss.values()):16.1f}" for _, pss in found))


if __name__ == "__main__":
    main()
