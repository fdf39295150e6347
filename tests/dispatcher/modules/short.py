"""A task that is short, until it is told to be something else."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from jobrunner import task


@task(name="short")
def short(do: str = "nothing", directory: str = "", number: int = 0) -> Any:
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
    elif do == "exits":
        os._exit(3)
    elif do == "is_killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "holds":
        (Path(directory) / "held").write_text(str(number))
        while not (Path(directory) / "go").exists():
            time.sleep(0.005)
    return number
