"""A task that is short, until it is told to be something else."""

import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from jobrunner import current_job, task

_kept: list[bytes] = []


@task(name="short")
def short(  # noqa: C901, PLR0912 - a list of misdeeds
    do: str = "nothing", directory: str = "", number: int = 0
) -> Any:
    if do == "prints":
        print("printed", number)
        os.write(1, f"written {number}\n".encode())
        if number % 10 == 0:
            subprocess.run(["echo", "child", str(number)], check=True)
    elif do == "prints_much":
        print("x" * 300_000)
    elif do == "yields":
        yield number
        yield -number
    elif do == "burns_on":
        threading.Thread(target=_burn, args=(Path(directory) / "burnt",)).start()
    elif do == "raises":
        raise LookupError(number)
    elif do == "keeps":
        _kept.append(bytes([1]) * number)
    elif do == "returns_much":
        return "x" * number
    elif do == "babbles":
        (pipe,) = (fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_socket(fd))  # noqa: PTH208
        os.write(pipe, b"u{}\nrnull\n")
        time.sleep(60)
    elif do == "exits":
        os._exit(3)
    elif do == "is_killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "sleeps":
        time.sleep(number / 1000)
    elif do == "holds":
        (Path(directory) / "held").write_text(str(number))
        while not (Path(directory) / "go").exists():
            time.sleep(0.005)
    return number


def _burn(done: Path) -> None:
    while time.thread_time() < 0.5:
        pass
    done.write_text(str(current_job().id))


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:  # that of the listing itself
        return False
