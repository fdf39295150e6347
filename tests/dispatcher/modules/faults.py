"""Tasks that do what tasks must not: die, hang, ignore, flood, leave things running."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobrunner import current_job, kernel, task


@task(name="nothing")
def nothing() -> None: ...


@task(name="add")
def add(a: int, b: int) -> int:
    return a + b


@task(name="count")
def count(n: int) -> Any:
    yield from range(n)
    return n


@task(name="started")
def started() -> float:
    return time.time()


@task(name="hold")
def hold(directory: str, name: str = "held") -> str:
    """Say who and where it is, then wait until the file `go` is there."""
    place = Path(directory)
    told = {
        "pid": os.getpid(),
        "worker": os.getppid(),
        "attempt": current_job().attempt,
        "id": current_job().id,
    }
    (place / f"{name}.part").write_text(json.dumps(told))
    (place / f"{name}.part").rename(place / name)
    pause = threading.Event()
    while not (place / "go").exists():
        pause.wait(0.01)
    return name


@task(name="gate")
def gate(directory: str) -> str:
    """Return at once, unless the file `shut` is there: then wait until the file `go` is."""
    return hold(directory, "gated") if (Path(directory) / "shut").exists() else "open"


@task(name="stream")
def stream(directory: str) -> Any:
    """Yield once, then wait until the file `go` is there, then yield again."""
    yield "first"
    hold(directory, "streaming")
    yield "second"
    return "done"


@task(name="raises")
def raises(message: str = "no") -> None:
    print("about to raise")
    raise ValueError(message)


@task(name="raises_until", retries=5)
def raises_until(attempt: int) -> int:
    if current_job().attempt < attempt:
        raise RuntimeError("not yet")
    return current_job().attempt


@task(name="exits")
def exits(code: int = 3) -> None:
    print("last words", flush=True)
    os._exit(code)


@task(name="sys_exits")
def sys_exits() -> None:
    sys.exit("leaving")


@task(name="segfaults")
def segfaults() -> None:
    ctypes.string_at(0)


@task(name="stuck_in_c")
def stuck_in_c(directory: str) -> None:
    """Hold the GIL in C, deaf to SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    _say_pid(directory, "stuck")
    ctypes.PyDLL(None).sleep(600)


@task(name="ignores_sigterm")
def ignores_sigterm(directory: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _say_pid(directory, "stuck")
    while True:
        signal.pause()


@task(name="cleans_up")
def cleans_up(directory: str) -> None:
    try:
        _say_pid(directory, "stuck")
        threading.Event().wait()
    finally:
        (Path(directory) / "cleaned").touch()


@task(name="has_children")
def has_children(directory: str) -> None:
    """Start a child that ignores SIGTERM, and one that leaves the session, then hang."""
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=away)
        for away in (False, True)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    (Path(directory) / "children").write_text(json.dumps([os.getpid(), *(child.pid for child in children)]))
    threading.Event().wait()


@task(name="unserializable")
def unserializable() -> Any:
    return {"fine": 1, "models": [1, object()]}


@task(name="partial_unserializable")
def partial_unserializable() -> Any:
    yield 1
    yield {2: {1, b"x"}}


@task(name="not_a_number")
def not_a_number() -> Any:
    yield {"loss": float("nan")}
    return [float("inf"), 1.5]


@task(name="prints_much")
def prints_much(megabytes: int) -> str:
    line = "x" * 1023 + "\n"
    for _ in range(megabytes * 1024):
        sys.stdout.write(line)
    print("the end")
    return "printed"


@task(name="prints_everywhere")
def prints_everywhere() -> None:
    print("from python")
    print("from stderr", file=sys.stderr)
    ctypes.CDLL(None).puts(b"from c")
    subprocess.run(["echo", "from a child"], check=True)
    os.write(1, "wide: \u00e9\u4e2d\n".encode())
    os.write(1, b"not utf-8: \xff\n")


@task(name="big_result")
def big_result(size: int) -> str:
    return "x" * size


@task(name="gives_back")
def gives_back(value: Any) -> Any:
    return value


@task(name="eats_memory")
def eats_memory(megabytes: int, directory: str = "") -> int:
    kept = [bytearray(os.urandom(1)) * (1 << 20) for _ in range(megabytes)]
    if directory:
        hold(directory, "full")
    return len(kept)


@task(name="child_eats_memory")
def child_eats_memory(megabytes: int) -> None:
    code = f"kept = [bytearray(b'x') * (1 << 20) for _ in range({megabytes})]; import signal; signal.pause()"
    subprocess.run([sys.executable, "-c", code], check=True)


@task(name="closes_everything")
def closes_everything() -> None:
    os.closerange(3, 256)
    threading.Event().wait(60)


@task(name="moves_away")
def moves_away() -> str:
    os.chdir("/")
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - left open on purpose
    return "moved"


@task(name="where")
def where() -> str:
    print("here")
    return os.getcwd()  # noqa: PTH109


@task(name="progresses")
def progresses(n: int) -> None:
    for done in range(1, n + 1):
        current_job().progress(done, n, f"step {done}")


@task(name="pid")
def pid() -> int:
    return os.getpid()


@task(name="forks")
def forks() -> int:
    """Fork a helper that writes to everything that it inherited."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            current_job().progress(1, 1, "from the child")
        os._exit(0)
    os.waitpid(child, 0)
    return 7


@task(name="forks_and_returns")
def forks_and_returns() -> str:
    """Both go on: only the parent is the job."""
    child = os.fork()
    return "the child" if child == 0 else "the parent"


@task(name="forks_in_the_middle")
def forks_in_the_middle() -> Any:
    yield "before"
    yield "the child" if os.fork() == 0 else "the parent"


@task(name="progress_of_bytes")
def progress_of_bytes() -> str:
    current_job().progress(1, 2, "fine")
    current_job().progress(2, 2, b"bytes")  # type: ignore[arg-type]
    return "done"


@task(name="leaves_children")
def leaves_children() -> None:
    """Start something that ends by itself, and wait for nobody."""
    subprocess.run(f"{sys.executable} -c pass &", shell=True, check=True)  # noqa: S602 - a shell that goes away at once


@task(name="leaves_a_thread")
def leaves_a_thread(directory: str) -> None:
    job = current_job()

    def go_on() -> None:
        pause = threading.Event()
        while not (Path(directory) / "go").exists():
            pause.wait(0.01)
            job.progress(1, 1, "from another job")

    threading.Thread(target=go_on, daemon=True).start()


@task(name="leaves_signals")
def leaves_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.setitimer(signal.ITIMER_REAL, 0.2)


@task(name="shares_memory")
def shares_memory(megabytes: int, directory: str) -> int:
    """Fill memory, and look at it from four forked helpers."""
    kept = [bytearray(b"x") * (1 << 20) for _ in range(megabytes)]
    helpers = []
    for _ in range(4):
        helper = os.fork()
        if helper == 0:
            signal.pause()
        helpers.append(helper)
    hold(directory, "shared")
    for helper in helpers:
        os.kill(helper, signal.SIGKILL)
        os.waitpid(helper, 0)
    return len(kept)


@task(name="answers_on_sigterm")
def answers_on_sigterm(directory: str) -> str:
    """Answer when told to stop, instead of stopping."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    _say_pid(directory, "stuck")
    while not asked.wait(0.01):
        pass
    return "just in time"


@task(name="kills")
def kills(what: str) -> None:
    """Kill what this runs in, or beside."""
    worker = os.getppid()
    forkserver = kernel.parent(worker)
    if what == "group":
        os.killpg(os.getpgid(worker), signal.SIGKILL)
    elif what == "writer":
        (writer,) = (pid for pid in kernel.children(forkserver) if not kernel.children(pid))
        os.kill(writer, signal.SIGKILL)
    else:
        pids = {"worker": worker, "forkserver": forkserver, "dispatcher": kernel.parent(forkserver)}
        os.kill(pids[what], signal.SIGKILL)
    threading.Event().wait()


@task(name="speaks")
def speaks(words: str, endless: bool = False, wait: bool = True) -> Any:
    """Write into every socket that is open here: the Pipe is one."""
    yield "before"
    names = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - only the names
    pipes = [fd for fd in names if os.path.exists(f"/proc/self/fd/{fd}") and _is_socket(fd)]  # noqa: PTH110
    (pipe,) = pipes
    os.write(pipe, words.encode())
    while endless:
        os.write(pipe, b"x" * (1 << 16))
    if wait:
        threading.Event().wait()


@task(name="speaks_later")
def speaks_later(directory: str, words: str) -> None:
    """Leave a thread that writes into the Pipe when the file `speak` is there."""

    def speak() -> None:
        pause = threading.Event()
        while not (Path(directory) / "speak").exists():
            pause.wait(0.01)
        (pipe,) = (fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}") and _is_socket(fd))  # noqa: PTH110
        os.write(pipe, words.encode())
        _say_pid(directory, "spoken")

    threading.Thread(target=speak, daemon=True).start()


def _is_socket(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")  # noqa: PTH115


@task(name="daemon_eats")
def daemon_eats(directory: str, megabytes: int) -> None:
    """Have a grandchild eat that has left the session, and whose own parent is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _say_pid(directory, "daemon")
            eats_memory(megabytes)
            signal.pause()
        os._exit(0)
    threading.Event().wait()


@task(name="daemon_speaks")
def daemon_speaks(directory: str) -> None:
    """Die, and leave a grandchild that speaks on and on."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _say_pid(directory, "daemon")
            for fd in range(3, 64):
                if os.path.exists(f"/proc/self/fd/{fd}") and _is_socket(fd):  # noqa: PTH110
                    while True:
                        os.write(fd, b'p"' + b"x" * 10_000 + b'"\n')
        os._exit(0)
    hold(directory, "speaking")
    os._exit(3)


@task(name="works")
def works(directory: str, name: str = "works", megabytes: int = 64) -> None:
    """Use memory and CPU, and say so when some of both is used."""
    kept = bytearray(b"x") * (megabytes << 20)
    while time.process_time() < 0.3:
        sum(kept[:1000])
    _say_pid(directory, name)
    while True:
        sum(kept[:1000])
        time.sleep(0.001)


@task(name="burns")
def burns(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@task(name="child_burns")
def child_burns(directory: str, seconds: float) -> None:
    """Have a child use CPU and live on, and wait for nobody."""
    if os.fork() == 0:
        burns(seconds)
        _say_pid(directory, "burnt")
        signal.pause()
    threading.Event().wait()


@task(name="oom_score")
def oom_score() -> list[str]:
    """Say what the kernel's OOM killer would think of this process and of a child."""
    read = ["cat", "/proc/self/oom_score_adj"]
    mine = Path("/proc/self/oom_score_adj").read_text()
    return [mine.strip(), subprocess.run(read, check=True, capture_output=True, text=True).stdout.strip()]


@task(name="yields_texts")
def yields_texts(size: int, times: int = 1_000_000) -> Any:
    for _ in range(times):
        yield "x" * size


@task(name="prints_for_ever")
def prints_for_ever() -> None:
    while True:
        os.write(1, b"and on and on\n" * 4096)


@task(name="fails_at_length")
def fails_at_length(megabytes: int) -> None:
    raise ValueError("\ud800" + "x" * (megabytes << 20))


@task(name="progresses_at_length")
def progresses_at_length(characters: int) -> None:
    current_job().progress(1, 2, "x" * characters)


def _say_pid(directory: str, name: str) -> None:
    (Path(directory) / f"{name}.part").write_text(str(os.getpid()))
    (Path(directory) / f"{name}.part").rename(Path(directory) / name)
