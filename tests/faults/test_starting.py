"""A start that cannot succeed says why, and what mends it; one that comes at a bad moment waits."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.faults.disks import SmallDisk
from tests.faults.system import System, Systems
from tests.waiting import eventually


def cannot_start(system: System, *commands: str) -> list[str]:
    """Start, at the same time, what must not come up; return what each said."""
    parts = [system.start_part(*command.split()) for command in commands]
    for part in parts:
        assert part.process.wait(60) == 1
        assert "Traceback" not in part.said
    return [part.said for part in parts]


def started_api(system: System) -> System:
    system.api = system.start_part("api")
    eventually(system.answers, 30)
    return system


def test_on_a_disk_that_cannot_be_written(systems: Systems, small_disk: SmallDisk) -> None:
    system = systems(small_disk)
    assert system.run("db", "upgrade").returncode == 0
    small_disk.remount("ro")
    started_api(system)
    assert "cannot be used" in system.checks()["store"]
    answer = system.submit("nothing")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    dispatcher, upgrade = cannot_start(system, "dispatcher", "db upgrade")
    assert "cannot be used" in dispatcher
    assert "Read-only file system" in upgrade

    small_disk.remount("rw")
    small_disk.fail()
    assert "there is no room" in system.checks()["store"]
    assert system.submit("nothing").status == 503
    for said in cannot_start(system, "dispatcher", "db upgrade"):
        assert "there is no room" in said

    small_disk.mend()
    system.dispatcher = system.start_part("dispatcher")
    eventually(system.is_ready, 60)
    eventually(system.has_succeeded(system.accepted("nothing")), 60)


REMEDIES = {
    "0001": "run `jobrunner db upgrade`",
    "tomorrow": "it was made by a newer jobrunner: install that version, or a newer one",
}


def test_on_a_schema_that_is_not_the_programs(systems: Systems) -> None:
    system = systems()
    assert system.run("db", "upgrade").returncode == 0
    present = exchange_revision(system, "0001")
    started_api(system)
    for revision, remedy in REMEDIES.items():
        exchange_revision(system, revision)
        for answer in (system.submit("nothing"), system.ask("GET", "/jobs"), system.ask("GET", "/jobs/1")):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
            assert answer.value["type"] == "/problems/schema-version"
            assert remedy in answer.value["detail"]
        assert remedy in system.checks()["schema"]
        for said in cannot_start(system, "dispatcher", "serve --port=0", "db check"):
            assert f"{system.data}/jobrunner.db is {revision}" in said
            assert remedy in said
    exchange_revision(system, present)
    assert "schema" not in system.checks()


def exchange_revision(system: System, revision: str) -> str:
    """Change what the store says of its schema; return what it said."""
    with closing(sqlite3.connect(system.data / "jobrunner.db", isolation_level=None)) as connection:
        (before,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    return str(before)


@contextmanager
def locked(system: System) -> Iterator[None]:
    """Let nobody else write."""
    with closing(sqlite3.connect(system.data / "jobrunner.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def tries_again(system: System) -> bool:
    assert system.dispatcher.is_alive, system.dispatcher.said
    return "trying again until it works" in system.dispatcher.said


def test_a_store_that_is_locked_while_the_dispatcher_starts_does_not_end_it(systems: Systems) -> None:
    system = systems()
    assert system.run("db", "upgrade").returncode == 0
    started_api(system)
    with locked(system):
        system.dispatcher = system.start_part("dispatcher")
        eventually(lambda: tries_again(system), 60)
        assert "ready:" not in system.dispatcher.said
        workers = set(system.dispatcher.family())
    eventually(system.is_ready, 60)
    assert workers <= set(system.dispatcher.family())  # the Pool is the one that it had
    eventually(system.has_succeeded(system.accepted("nothing")), 60)
    assert system.dispatcher.stop() == 0


def test_a_pool_that_breaks_while_the_store_is_locked_ends_the_start(systems: Systems) -> None:
    system = systems()
    assert system.run("db", "upgrade").returncode == 0
    with locked(system):
        system.dispatcher = system.start_part("dispatcher")
        eventually(lambda: tries_again(system), 60)
        for pid in system.dispatcher.family()[1:]:
            os.kill(pid, signal.SIGKILL)
        assert system.dispatcher.process.wait(60) == os.EX_SOFTWARE
    assert "died; ending, to be started again" in system.dispatcher.said
