"""Running `jobrunner` as people do: as processes, from a directory of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jobrunner import kernel
from tests.waiting import eventually

MODULES = Path(__file__).with_name("modules")
START_SECONDS = 60.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "jobrunner", *arguments]


def environ(**more: str) -> dict[str, str]:
    """Return an environment without settings but these, in which `modules` can be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBRUNNER_")}
    return {**kept, "PYTHONPATH": str(MODULES), **more}


class Served:
    """A `jobrunner serve`, and what it printed."""

    def __init__(self, folder: Path, *flags: str, path: Path = MODULES) -> None:
        self.data = folder / "data"
        self.output, self.log = folder / "output", folder / "log"
        with self.output.open("wb") as output, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command("serve", "--port=0", "--workers=2", f"--data={self.data}", *flags),
                cwd=folder,
                env=environ(PYTHONPATH=str(path)),
                stdout=output,
                stderr=log,
                process_group=0,
            )

    def wait_until_ready(self) -> "Served":
        eventually(lambda: "try:" in self.said() or self.process.poll() is not None, START_SECONDS)
        assert self.process.poll() is None, self.logged()
        return self

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        return self.said().splitlines()[0].rpartition(" ")[2]

    @property
    def first_line(self) -> str:
        return self.said().partition("try:")[2].strip()

    def parts(self) -> dict[str, int]:
        """Return the pids of the API and the dispatcher that are alive."""
        found = {}
        for pid in kernel.children(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except FileNotFoundError:
                continue
            found.update({name: pid for name in ("api", "dispatcher") if name.encode() in words})
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command that talks to it, in a pipe."""
        return subprocess.run(
            command(*arguments),
            env=environ(JOBRUNNER_URL=self.url),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str) -> "Followed":
        return Followed(arguments, environ(JOBRUNNER_URL=self.url), self.output.parent)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


class Followed:
    """A command that is running, and what it has printed so far."""

    def __init__(self, arguments: Sequence[str], env: dict[str, str], folder: Path) -> None:
        self._output = folder / f"followed-{os.urandom(4).hex()}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command(*arguments), env=env, stdout=output, stderr=output, process_group=0
            )

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_until_it_says(self, words: str) -> None:
        eventually(lambda: words in self.said(), 30.0)

    def status(self) -> int:
        return self.process.wait(60)


@contextmanager
def serving(folder: Path, *flags: str, path: Path = MODULES) -> Iterator[Served]:
    """Serve for the length of a block, and see that nothing is left behind."""
    served = Served(folder, *flags, path=path)
    try:
        yield served
    finally:
        family = descendants(served.process.pid)
        served.process.send_signal(signal.SIGTERM)
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(60)
        eventually(lambda: not [pid for pid in family if kernel.started_ticks(pid) is not None], 30.0)


def descendants(pid: int) -> list[int]:
    """Return the pids of all that a process has started, directly or not."""
    return [pid for child in kernel.children(pid) for pid in (child, *descendants(child))]
