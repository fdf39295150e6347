"""`python -m tests.bench.memory`: whether a dispatcher grows with the jobs that it has run.

Runs no-op jobs in one `jobrunner serve`, and prints what each of its processes takes after the first few and after
the last: resident (RSS) and proportional (PSS, what is shared counts once among all) memory, in MB.
"""

import argparse
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
    parser.add_argument("--few", type=int, default=2_000, help="jobs before the first look")
    parser.add_argument("--many", type=int, default=200_000, help="jobs before the second")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as directory:
        server = Server(Path(directory))
        try:
            no_op_jobs(server, given.few)
            before = [megabytes(server, measure) for measure in (_resident, _proportional)]
            rate = no_op_jobs(server, given.many - given.few)
            after = [megabytes(server, measure) for measure in (_resident, _proportional)]
        finally:
            server.close()
    print(
        f"no-op jobs, {rate:,.0f} a second; memory in MB after {given.few:,} and after {given.many:,} of them"
    )
    for name in sorted(before[0]):
        (rss, pss), (rss_after, pss_after) = ([one[name] for one in look] for look in (before, after))
        print(
            f"  {name:14} RSS {rss:6.1f} {rss_after:6.1f}   PSS {pss:6.1f} {pss_after:6.1f}   x {pss_after / pss:.2f}"
        )
    total = [sum(look[1].values()) for look in (before, after)]
    print(f"  in all, PSS    {total[0]:.1f} {total[1]:.1f}   x {total[1] / total[0]:.2f}")


if __name__ == "__main__":
    main()
