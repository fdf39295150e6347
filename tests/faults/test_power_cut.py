"""What is left of the store when everything stops in the middle of whatever it does."""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobrunner.lifecycle import FINAL
from jobrunner.store import lists
from jobrunner.store.audit import contradictions
from jobrunner.store.engine import Store
from tests.faults.disks import FailingDisk
from tests.faults.system import System, Systems, freeze, thaw
from tests.waiting import eventually

CUTS = 6
FILES = ("jobrunner.db", "jobrunner.db-wal")


@dataclass
class Journal:
    """What the system has promised to those who use it."""

    accepted: list[int] = field(default_factory=list)
    final: dict[int, str] = field(default_factory=dict)  # the state that somebody was told

    def copy(self) -> "Journal":
        return Journal(self.accepted.copy(), self.final.copy())

    def kept_by(self, file: Path) -> None:
        """Fail unless the store that is left has all of it, and agrees with itself."""
        store = Store(f"sqlite:///{file}")
        with store.read() as connection:
            assert list(contradictions(connection)) == []
            limit = len(self.accepted) + 1000
            left = {
                job.id: job.state
                for job in lists.page(connection, lists.Filter(), before_id=None, limit=limit)
            }
        store.close()
        assert set(self.accepted) - left.keys() == set()
        assert {job_id: left[job_id] for job_id in self.final} == self.final


class Users:
    """They submit, cancel and look, until the block ends."""

    def __init__(self, system: System) -> None:
        self.journal = Journal()
        self._system = system
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._submit, self._submit, self._look)]

    def __enter__(self) -> "Users":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(60)

    def have_been_told_more(self) -> Journal:
        """Wait until much was promised since now; return all that was."""
        accepted, final = len(self.journal.accepted), len(self.journal.final)
        eventually(lambda: len(self.journal.accepted) > accepted + 30, 60)
        eventually(lambda: len(self.journal.final) > final + 10, 60)
        return self.journal.copy()

    def _submit(self) -> None:
        batch = [{"task": "nothing"}] * 20
        while not self._enough.is_set():
            self.journal.accepted.append(self._system.accepted("count", n=2))
            self.journal.accepted += self._system.ask("POST", "/jobs/batch", batch).value["ids"]
            self._cancel(self._system.accepted("nothing"))

    def _cancel(self, job_id: int) -> None:
        self.journal.accepted.append(job_id)
        if self._system.ask("POST", f"/jobs/{job_id}/cancel").value.get("state") == "cancelled":
            self.journal.final[job_id] = "cancelled"

    def _look(self) -> None:
        while not self._enough.is_set():
            for job in self._system.ask("GET", "/jobs?state=succeeded&limit=50").value["items"]:
                self.journal.final[job["id"]] = "succeeded"


def cut(system: System, synced: Path, into: Path) -> None:
    """Stop everything for a moment, and copy what a crash would leave, and what a power cut would."""
    frozen = freeze(system)
    for left, of in (("crash", system.data), ("power", synced)):
        (into / left).mkdir(parents=True)
        for name in FILES:
            shutil.copy(of / name, into / left)
    thaw(frozen)


def test_nothing_that_was_promised_is_lost_at_any_moment(
    systems: Systems, failing_disk: FailingDisk, tmp_path: Path
) -> None:
    """Of a crash all that was written is left; of a power cut what was synced, in the worst case that alone."""
    system = systems(failing_disk)
    system.start()
    promised: list[Journal] = []
    with Users(system) as users:
        for number in range(CUTS):
            promised.append(users.have_been_told_more())
            cut(system, failing_disk.synced, tmp_path / str(number))
    for part in system.parts:
        part.kill()
    for number, journal in enumerate(promised):
        for left in ("crash", "power"):
            journal.kept_by(tmp_path / str(number) / left / "jobrunner.db")

    after = systems()
    after.data = tmp_path / str(CUTS - 1) / "power"
    after.start()
    eventually(lambda: all(after.state(job_id) in FINAL for job_id in promised[-1].accepted), 60)
    after.books_agree()


PROGRAM = """
import os, sys
from jobrunner.store import jobs, migrations
from jobrunner.store.engine import Store
from tests.store.books import START, new

store = Store(sys.argv[1])
migrations.prepare(store)
for durable in sys.argv[2:]:
    with store.write(durable=durable == "durable") as connection:
        jobs.submit(connection, [new()], now=START)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("commits", "left"),
    [
        (["durable"], [1]),
        (["durable", "not"], [1]),
        (["not", "durable", "not", "not"], [1, 2]),
        (["not"], []),
    ],
)
def test_a_power_cut_takes_what_was_committed_since_the_last_durable_write(
    failing_disk: FailingDisk, commits: list[str], left: list[int]
) -> None:
    """Else the test above would show nothing."""
    url = f"sqlite:///{failing_disk.data / 'jobrunner.db'}"
    environ = os.environ | dict(failing_disk.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", PROGRAM, url, *commits], env=environ, check=True)
    store = Store(f"sqlite:///{failing_disk.synced / 'jobrunner.db'}")
    with store.read() as connection:
        found = lists.page(connection, lists.Filter(), before_id=None, limit=10)
    store.close()
    assert sorted(one.id for one in found) == left
