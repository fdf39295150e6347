import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.errors import StoreError
from jobrunner.lifecycle import Ending
from jobrunner.store import backup, jobs
from jobrunner.store.audit import contradictions
from jobrunner.store.engine import Store
from tests.store.books import Books, new
from tests.waiting import eventually


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `jobrunner db`."""
    command = [sys.executable, "-m", "jobrunner", "db", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def count(path: Path) -> int:
    with backup.opened(path) as connection:
        assert list(contradictions(connection)) == []
        return sum(jobs.counts(connection).values())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "one.db"


@pytest.fixture(autouse=True)
def _directory(target: Path) -> None:
    target.parent.mkdir()


@contextlib.contextmanager
def submitting(books: Books, each: int) -> Iterator[None]:
    """Somebody goes on submitting, `each` jobs at a time."""
    enough = threading.Event()

    def submit() -> None:
        while not enough.is_set():
            books.submit(*[new()] * each)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(30)


def test_a_backup_has_all_that_the_store_has(books: Books, target: Path) -> None:
    finished, waiting = books.finished(Ending.SUCCEEDED), books.queued(labels={"run": "a"})
    backup.write(books.store, target)
    with backup.opened(target) as connection:
        assert jobs.get(connection, finished) == books.job(finished)
        assert jobs.get(connection, waiting) == books.job(waiting)
    assert list(target.parent.iterdir()) == [target]


def test_a_backup_in_the_place_of_the_store_is_a_store(books: Books, target: Path) -> None:
    books.queued()
    backup.write(books.store, target)
    restored = Books(Store(f"sqlite:///{target}"))
    restored.queued()
    restored.audit()
    assert sum(restored.counts().values()) == 2
    restored.store.close()


def test_a_backup_of_a_store_at_work_is_of_one_moment(books: Books, target: Path) -> None:
    with submitting(books, each=7):
        for turn in range(5):
            before = sum(books.counts().values())
            eventually(lambda before=before: sum(books.counts().values()) > before)  # type: ignore[misc]
            backup.write(books.store, target.with_name(f"{turn}.db"))
    counts = [count(target.with_name(f"{turn}.db")) for turn in range(5)]
    assert all(found % 7 == 0 for found in counts)
    assert counts == sorted(set(counts))


def test_a_backup_takes_the_place_of_nothing(books: Books, target: Path) -> None:
    target.write_text("precious", encoding="ascii")
    with pytest.raises(StoreError, match="is there already"):
        backup.write(books.store, target)
    assert target.read_text(encoding="ascii") == "precious"
    assert list(target.parent.iterdir()) == [target]


def test_a_backup_without_a_directory_is_told(books: Books, target: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be written to .*: No such file or directory"):
        backup.write(books.store, target.parent / "gone" / "one.db")


def test_a_backup_may_be_read_by_whom_the_store_may_be_read_by(books: Books, target: Path) -> None:
    books.store.path.chmod(0o600)
    backup.write(books.store, target)
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes backups for others")
def test_a_backup_that_root_makes_belongs_to_the_stores_owner(books: Books, target: Path) -> None:
    os.chown(books.store.path, 65534, 65534)
    books.store.path.chmod(0o640)
    backup.write(books.store, target)
    its = target.stat()
    assert (its.st_uid, its.st_gid, its.st_mode & 0o777) == (65534, 65534, 0o640)


def test_a_backup_for_which_there_is_no_room_is_told_and_leaves_nothing(books: Books, target: Path) -> None:
    books.submit(*[new(params=f'["{"x" * 10_000}"]')] * 200)
    books.store.close()
    command = [sys.executable, "-m", "jobrunner", "db", "backup", str(target), "--data", str(target.parent)]
    command += ["--database-url", f"sqlite:///{books.store.path}"]
    done = subprocess.run(
        ["prlimit", "--fsize=500000", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "Error: the store cannot be copied: disk I/O error (SQLITE_IOERR_WRITE)\n"
    assert not any(target.parent.iterdir())


def test_the_command_says_what_it_copied(books: Books, target: Path) -> None:
    books.submit(*[new()] * 3)
    done = run("backup", target, "--database-url", f"sqlite:///{books.store.path}")
    assert (done.returncode, done.stderr) == (0, "")
    size = target.stat().st_size / 1024
    assert done.stdout == f"{target}: 3 jobs, {size:.1f} KB, on disk\n"


def test_a_store_that_is_not_there_is_not_made_by_a_backup(target: Path, tmp_path: Path) -> None:
    done = run("backup", target, "--data", tmp_path / "nowhere")
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: there is no store at {tmp_path}/nowhere/jobrunner.db\n",
    )
    assert not (tmp_path / "nowhere").exists()


# -- checking ---------------------------------------------------------------------------------------


def test_a_backup_is_checked_and_not_touched(books: Books, target: Path) -> None:
    books.submit(*[new()] * 3)
    backup.write(books.store, target)
    before = target.read_bytes(), target.stat().st_mtime_ns
    done = run("check", target)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 jobs: the file is whole, and the books agree" in done.stdout
    assert (target.read_bytes(), target.stat().st_mtime_ns) == before
    assert list(target.parent.iterdir()) == [target]


def test_a_store_at_work_is_checked_without_disturbing_it(books: Books) -> None:
    with submitting(books, each=1):
        done = run("check", "--database-url", f"sqlite:///{books.store.path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "jobs: the file is whole, and the books agree" in done.stdout


def test_contradictions_are_listed_and_counted(books: Books, target: Path) -> None:
    books.submit(*[new()] * 30)
    backup.write(books.store, target)
    forge(target, "UPDATE job SET version = 2")
    done = run("check", target)
    assert done.returncode == 1
    assert done.stdout.count("its last event is 1, its version 2") == 20
    assert done.stderr == f"Error: 30 contradictions in {target}, of which 20 are shown\n"


def forge(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_damaged_backup_is_found(books: Books, target: Path) -> None:
    books.submit(*[new(params=f'["{"x" * 1_000}"]')] * 200)
    backup.write(books.store, target)
    content = bytearray(target.read_bytes())
    content[-40 * 4096 : -30 * 4096] = b"\x55" * (10 * 4096)
    target.write_bytes(content)
    done = run("check", target)
    assert done.returncode == 1
    assert "file: " in done.stdout or "malformed" in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"Dear diary, " * 1000, "file is not a database"), (b"", "is missing"), (None, "no such file")],
)
def test_what_is_no_backup_is_told(target: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        target.write_bytes(content)
    done = run("check", target)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_store_in_use_is_not_taken_for_a_backup(books: Books) -> None:
    books.queued()
    done = run("check", books.store.path)
    assert done.returncode == 1
    assert "is a store and no backup" in done.stderr


def test_a_backup_of_another_schema_is_told(books: Books, target: Path) -> None:
    backup.write(books.store, target)
    forge(target, "UPDATE alembic_version SET version_num = 'tomorrow'")
    done = run("check", target)
    assert done.returncode == 1
    assert "it was made by a newer jobrunner: install that version" in done.stderr
