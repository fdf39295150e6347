"""The store cannot be used for a while: nothing is lost, nobody spins, and all goes on by itself."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.faults.disks import Disk, FailingDisk
from tests.faults.system import Answer, System, Systems
from tests.waiting import eventually

ITEMS, CHUNK = 300, 40  # of a map job
WATCHDOGS = 6  # some three seconds of an outage


def is_told(answer: Answer, why: str) -> bool:
    """Whether a request was refused because of the outage; it must say why, and when to try again."""
    if answer.status < 300:
        return False
    assert answer.status == 503, answer
    assert answer.value["type"] == "/problems/store-unavailable"
    assert why in answer.value["detail"]
    assert answer.headers["Retry-After"] == "1"
    return True


def hold_two(system: System) -> list[int]:
    """Have one worker busy with a job, one with a map job's item, that wait for the file `go`; return their ids."""
    params = {"directory": str(system.folder), "step": ITEMS}
    mapped = {"task": "map_faults.passes", "params": params, "map": {"n": {"range": [0, ITEMS]}}}
    sweep = system.ask("POST", "/jobs", {**mapped, "max_parallel": 1, "chunk_size": CHUNK}).value["id"]
    held = system.accepted("hold", directory=str(system.folder), name="held")
    eventually(lambda: all((system.folder / name).exists() for name in ("held", "runs")), 30)
    return [held, sweep]


def goes_on(system: System, held: list[int], *waiting: int) -> None:
    """See that all is well after an outage, and that nobody had to be started again for it."""
    for job_id in (*held, *waiting):
        eventually(system.has_succeeded(job_id), 60)
    eventually(system.has_succeeded(system.accepted("nothing")), 60)
    assert system.checks() == {}
    assert all(part.is_alive for part in system.parts)
    for job_id in (*held, *waiting):
        attempts = system.ask("GET", f"/jobs/{job_id}/attempts").value["items"]
        assert [one["outcome"] for one in attempts] == ["succeeded"]
    assert system.ask("GET", f"/jobs/{held[1]}/result").value == list(range(ITEMS))
    runs = (system.folder / "runs").read_text(encoding="ascii").split()
    assert sorted(map(int, runs)) == list(range(ITEMS)), "each item has run once"
    system.books_agree()


def test_a_disk_that_fails_for_a_while_costs_nothing(systems: Systems, disk: Disk) -> None:
    system = systems(disk)
    system.start()
    held, waiting = hold_two(system), system.accepted("count", n=3)

    disk.fail()
    # The WAL may have room that it took before.
    eventually(lambda: is_told(system.submit("nothing"), disk.why), 30)
    (system.folder / "go").touch()  # what runs ends now, and its results cannot be written
    assert system.rest(WATCHDOGS) < 0.5
    assert disk.why in system.checks()["store"]
    assert system.ask("GET", "/livez").status == 200
    assert {system.state(job_id) for job_id in held} == {"running"}
    assert len(system.ask("GET", "/jobs").value["items"]) >= 3
    assert is_told(system.submit("nothing"), disk.why)

    disk.mend()
    goes_on(system, held, waiting)
    eventually(lambda: system.dispatcher.said.count("the store works again") == 2)  # the loop and the writer
    assert system.dispatcher.said.count(disk.why) < WATCHDOGS


def test_a_job_that_was_claimed_and_not_started_in_an_outage_is_started_after_it(
    systems: Systems, failing_disk: FailingDisk
) -> None:
    """A job that may run once only is started when its claim is synced."""
    system = systems(failing_disk)
    system.start()
    held = hold_two(system)
    once = system.ask("POST", "/jobs", {"task": "nothing", "crash_retries": 0}).value["id"]
    failing_disk.fail_to_sync()
    (system.folder / "go").touch()
    eventually(lambda: system.state(once) == "running", 30)
    eventually(lambda: "SQLITE_IOERR_FSYNC" in system.dispatcher.said, 30)
    assert is_told(system.submit("nothing"), "SQLITE_IOERR_FSYNC")
    assert system.rest(2) < 0.5
    assert system.state(once) == "running"
    failing_disk.mend()
    goes_on(system, held, once)


def test_a_lock_that_is_held_for_long_costs_nothing(system: System) -> None:
    held = hold_two(system)
    with closing(sqlite3.connect(system.data / "jobrunner.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (system.folder / "go").touch()
        assert is_told(system.submit("nothing"), "database is locked")
        assert {system.state(job_id) for job_id in held} == {"running"}
        assert system.rest(1) < 0.5
        other.execute("ROLLBACK")
    goes_on(system, held)


def test_a_store_that_is_moved_away_is_missed_until_it_is_put_back(system: System) -> None:
    """To go on in a file without a name is to lose what is written to it."""
    held = hold_two(system)
    file, aside = system.data / "jobrunner.db", system.data / "aside.db"
    file.rename(aside)
    (system.folder / "go").touch()
    for answer in (system.submit("nothing"), system.ask("GET", f"/jobs/{held[0]}")):
        assert is_told(answer, f"{file} is not there: put it back")
    assert system.rest(WATCHDOGS) < 0.5
    assert "is not there" in system.checks()["store"]
    assert not file.exists()  # nor was an empty one begun
    aside.rename(file)
    goes_on(system, held)


def test_a_store_is_restored_from_a_backup_while_nothing_runs(system: System) -> None:
    """SQLite would mix a new file with the WAL of the old one."""
    kept = system.accepted("nothing")
    file, backup = system.data / "jobrunner.db", system.data / "backup.db"
    assert system.run("db", "backup", str(backup)).returncode == 0
    later = system.accepted("nothing")
    eventually(system.has_succeeded(later), 30)
    backup.rename(file)
    why = f"{file} is another file than the one that was opened: put it back, or stop all of jobrunner"
    assert is_told(system.submit("nothing"), why)
    eventually(lambda: why in system.dispatcher.said)

    for part in (system.api, system.dispatcher):
        part.kill()
    for name in ("wal", "shm"):
        Path(f"{file}-{name}").unlink()
    system.start()
    eventually(system.has_succeeded(kept), 30)
    assert system.ask("GET", f"/jobs/{later}").status == 404
    system.books_agree()
