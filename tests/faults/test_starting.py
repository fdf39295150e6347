"""A start that cannot succeed says why, and what mends it."""

import contextlib
import sqlite3

import pytest

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


def test_on_a_full_disk(systems: Systems, small_disk: SmallDisk) -> None:
    system = systems(small_disk)
    assert system.run("db", "upgrade").returncode == 0
    small_disk.fail()
    started_api(system)
    assert "there is no room" in system.checks()["store"]
    assert system.submit("nothing").status == 503
    for said in cannot_start(system, "dispatcher", "db upgrade"):
        assert "there is no room" in said
    small_disk.mend()
    system.dispatcher = system.start_part("dispatcher")
    eventually(system.is_ready, 60)
    eventually(system.has_succeeded(system.accepted("nothing")), 30)


def test_on_a_disk_that_is_read_only(systems: Systems, small_disk: SmallDisk) -> None:
    system = systems(small_disk)
    assert system.run("db", "upgrade").returncode == 0
    small_disk.remount("ro")
    started_api(system)
    assert "cannot be used" in system.checks()["store"]
    answer = system.submit("nothing")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    for said in cannot_start(system, "dispatcher", "db upgrade"):
        assert "cannot be used" in said or "Read-only file system" in said
    small_disk.remount("rw")
    system.dispatcher = system.start_part("dispatcher")
    eventually(system.is_ready, 60)
    eventually(system.has_succeeded(system.accepted("nothing")), 30)


def set_revision(system: System, revision: str) -> None:
    with contextlib.closing(sqlite3.connect(system.data / "jobrunner.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [
        ("0001", "run `jobrunner db upgrade`"),
        ("tomorrow", "it was made by a newer jobrunner: install that version, or a newer one"),
    ],
)
def test_on_a_schema_that_is_not_the_programs(systems: Systems, revision: str, remedy: str) -> None:
    system = systems()
    assert system.run("db", "upgrade").returncode == 0
    (present,) = sqlite3.connect(system.data / "jobrunner.db").execute(
        "SELECT version_num FROM alembic_version"
    )
    set_revision(system, revision)
    for said in cannot_start(system, "dispatcher", "serve", "db check"):
        assert f"{system.data}/jobrunner.db is {revision}" in said
        assert remedy in said
    started_api(system)
    for answer in (system.submit("nothing"), system.ask("GET", "/jobs"), system.ask("GET", "/jobs/1")):
        assert answer.status == 503
        assert answer.value["type"] == "/problems/schema-version"
        assert remedy in answer.value["detail"]
        assert answer.headers["Retry-After"] == "60"
    assert remedy in system.checks()["schema"]
    set_revision(system, present[0])
    assert "schema" not in system.checks()
