"""Tasks that look around in the machine they run on; installed in a box as `mytasks`."""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from jobrunner import current_job, task

ANSWER = "old code"
_BITE_BYTES = 16 << 20

while Path("no-import").exists():  # in the directory of the jobs
    Path("import.started").touch()
    threading.Event().wait(0.02)


@task
def answer() -> str:
    """Return a constant of this module."""
    return ANSWER


@task
def wait_for(name: str) -> int | None:
    """Wait until `name` exists in the directory of the jobs; return the attempt."""
    Path(f"{name}.started").touch()
    while not Path(name).exists():
        threading.Event().wait(0.02)
    return current_job().attempt


@task
def ignore_everything(name: str) -> None:
    """Never end, whoever asks for it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(f"{name}.started").touch()
    while True:
        threading.Event().wait(1)


@task
def eat(limit_bytes: int) -> int:
    """Take so much memory, bite by bite."""
    eaten: list[bytearray] = []
    while len(eaten) * _BITE_BYTES < limit_bytes:
        eaten.append(bytearray(os.urandom(1) * _BITE_BYTES))
    return len(eaten)


@task
def eat_with_children(count: int) -> int:
    """Have so many children at the same time that take a bite each; return how many of them were killed for it."""
    children = [_eating_child() for _ in range(count)]
    killed = sum(os.waitpid(pid, os.WNOHANG)[0] == pid for pid in children)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return killed


def _eating_child() -> int:
    """Return the pid of a child that has eaten, or was killed meanwhile."""
    plate, fork = os.pipe()
    pid = os.fork()
    if pid == 0:
        bite = bytearray(os.urandom(1) * _BITE_BYTES)
        os.write(fork, bite[:1])
        signal.pause()
        os._exit(0)
    os.close(fork)
    os.read(plate, 1)
    os.close(plate)
    return pid


@task
def crash() -> None:
    """Die as C code does that reads a null pointer."""
    ctypes.string_at(0)


@task
def write(path: str) -> None:
    """Write a file."""
    Path(path).write_text("written", encoding="ascii")


@task
def look_around() -> dict[str, str]:
    """Try what jobs do, one thing after another; return what came of each."""
    return {attempt.__name__: _tried(attempt) for attempt in _ATTEMPTS}


def _tried(attempt: Callable[[], object]) -> str:
    try:
        return str(attempt())
    except OSError as error:
        return type(error).__name__


def compute() -> float:
    import numpy as np

    return float((np.ones((64, 64)) @ np.ones((64, 64))).sum())


def call_back() -> int:
    """What compilers at run time need: memory that is written and then executed."""
    return int(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)(41))


def start_a_program() -> str:
    return subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout.strip()


def start_processes() -> list[int]:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(abs, [-1, -2])


def talk_over_the_network() -> str:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
    ):
        other, _ = server.accept()
        with other:
            one.sendall(b"hello")
            return other.recv(5).decode()


def name_interfaces() -> bool:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW):
        return bool(socket.if_nameindex())


def limit_itself() -> int:
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return os.nice(1)


def write_here() -> str:
    Path("mine.txt").write_text("written", encoding="ascii")
    return str(Path("mine.txt").absolute())


def write_to_tmp() -> int:
    return Path("/tmp/mine.txt").write_text("written", encoding="ascii")  # noqa: S108 - the service's own


def import_what_a_job_wrote() -> bool:
    Path("surprise.py").touch()
    return "" in sys.path or str(Path.cwd()) in sys.path


def be_the_first_victim() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))


def write_settings() -> int:
    return Path("/etc/jobrunner/jobrunner.toml").write_text("", encoding="ascii")


def write_code() -> int:
    return Path("/usr/local/lib/jobrunner/mytasks.py").write_text("", encoding="ascii")


def see_homes() -> int:
    return len(list(Path("/root").iterdir()))


def see_other_users() -> bool:
    return Path("/proc/1").exists()


def become_root() -> None:
    os.setuid(0)


_ATTEMPTS: list[Callable[[], object]] = [
    compute,
    call_back,
    start_a_program,
    start_processes,
    talk_over_the_network,
    name_interfaces,
    limit_itself,
    write_here,
    write_to_tmp,
    import_what_a_job_wrote,
    be_the_first_victim,
    write_settings,
    write_code,
    see_homes,
    see_other_users,
    become_root,
]
