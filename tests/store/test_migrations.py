import fcntl
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.event import listen

from jobrunner.errors import SchemaVersionError
from jobrunner.lifecycle import State
from jobrunner.store import idempotency, jobs, migrations, moves, upgrades
from jobrunner.store.engine import Store
from jobrunner.store.idempotency import Kept
from jobrunner.store.tables import metadata
from tests.store import processes as work
from tests.store.books import START, audit, new, url_of
from tests.store.processes import Processes
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]

HEAD = max(path.name for path in (ROOT / "migrations" / "versions").glob("*.py"))[:4]  # they are numbered


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Where there is no store yet, nor even its directory."""
    return tmp_path / "data" / "jobs.db"


def schema(path: Path) -> list[tuple[str, str]]:
    """Each table, index and trigger with its definition, but not SQLite's own."""
    connection = sqlite3.connect(path)
    query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def submit_as_ever(connection: Connection) -> int:
    """Store a job as the first version of the program did; return its id."""
    connection.exec_driver_sql(
        "INSERT INTO job (id, task, params, state, priority, queue, labels,"
        " retries, crash_retries, created_at, version)"
        " VALUES (1, 't', '{}', 'queued', 0, 'default', '{\"who\": \"me\"}', 0, 2, 0, 1)"
    )
    connection.exec_driver_sql("INSERT INTO label VALUES (1, 'who', 'me')")
    connection.exec_driver_sql("INSERT INTO event VALUES (1, 1, 'state', 0, 0, '{\"state\":\"queued\"}')")
    return 1


def set_revision(path: Path, revision: str | None) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM alembic_version")
    if revision is not None:
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    connection.commit()
    connection.close()


def works(store: Store) -> bool:
    with store.write(durable=True) as connection:
        (job_id,) = jobs.submit(connection, [new(labels={"who": "me"})], now=START)
    with store.read() as connection:
        audit(connection)
        return jobs.get(connection, job_id).state is State.QUEUED


def test_a_store_that_is_not_there_is_created_with_its_directory(empty: Path) -> None:
    store = Store(url_of(empty))
    migrations.prepare(store)
    migrations.check(store)
    assert works(store)
    store.close()


def test_an_empty_file_gets_its_schema(empty: Path) -> None:
    empty.parent.mkdir()
    empty.touch()
    store = Store(url_of(empty))
    migrations.prepare(store)
    assert works(store)
    store.close()


def test_the_migrations_make_the_tables_that_the_program_knows(store: Store, path: Path) -> None:
    upgrades.differences(store)
    names = {name for name, _ in schema(path)}
    indexes = {index.name for table in metadata.tables.values() for index in table.indexes}
    assert names == {*metadata.tables, *indexes, "tally_delete", "alembic_version"}


def test_the_migrations_make_the_constraints_that_the_program_knows(store: Store, path: Path) -> None:
    """Which alembic does not compare."""
    by_migrations = dict(schema(path))
    twin = Store(url_of(path.with_name("twin.db")))
    metadata.create_all(twin.engine)
    twin.close()
    for name, sql in schema(path.with_name("twin.db")):
        assert parts(by_migrations[name]) == parts(sql), name


def parts(sql: str) -> list[str]:
    """The columns and constraints of a definition, in an order that does not matter to SQLite."""
    body = sql.partition("(")[2].rpartition(")")[0]
    lines = (part.strip() for part in re.split(r",(?![^()]*\))", body))
    return sorted(line.replace('"', "") for line in lines if line)


def test_preparing_twice_changes_nothing(empty: Path) -> None:
    store = Store(url_of(empty))
    migrations.prepare(store)
    assert works(store)
    before = schema(empty)
    migrations.prepare(store)
    migrations.upgrade(store)
    assert schema(empty) == before
    with store.read() as connection:
        assert jobs.counts(connection)[State.QUEUED] == 1
    store.close()


def test_who_still_writes_waits_for_an_upgrade_which_is_on_disk_when_it_is_over(empty: Path) -> None:
    """The API may go on: what it commits between two looks of Alembic would end an upgrade that only reads yet."""
    store = Store(url_of(empty))
    told: list[str] = []
    listen(store.engine, "connect", lambda one, _: one.set_trace_callback(told.append), insert=True)
    migrations.prepare(store)
    before = told.index("BEGIN IMMEDIATE")
    assert "PRAGMA synchronous=FULL" in told[before - 3 : before]
    began = {one for one in told if one.startswith("BEGIN")}
    written = [place for place, one in enumerate(told) if one.startswith(("CREATE", "INSERT", "UPDATE"))]
    assert (written[0] > before, began - {"BEGIN"}) == (True, {"BEGIN IMMEDIATE"})
    last = max(place for place, one in enumerate(told[: written[-1]]) if one.startswith("BEGIN"))
    assert told[last] == "BEGIN IMMEDIATE"
    store.close()


def test_processes_that_prepare_a_store_at_once_find_it_ready(empty: Path, processes: Processes) -> None:
    for turn in range(3):
        path = empty.parent / str(turn) / "jobs.db"
        processes.together(*[(work.prepare, url_of(path))] * 3)
        store = Store(url_of(path))
        assert works(store)
        store.close()


def test_who_comes_while_another_upgrades_waits_for_it(empty: Path) -> None:
    empty.parent.mkdir()
    store = Store(url_of(empty))
    preparing = threading.Thread(target=migrations.prepare, args=(store,))
    with Path(f"{empty}.upgrade").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        preparing.start()
        eventually(somebody_waits_for_a_lock)
        assert not empty.exists()
    preparing.join(30)
    assert works(store)
    store.close()


def somebody_waits_for_a_lock() -> bool:
    """Whether a thread of this process does, as proc(5) tells it."""
    locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    waiting = (line.split() for line in locks if "-> FLOCK" in line)
    return any(str(os.getpid()) in words for words in waiting)


# -- a schema that is not the program's ----------------------------------------------------------


def test_a_store_without_a_file_is_refused_with_the_remedy(empty: Path) -> None:
    with pytest.raises(
        SchemaVersionError, match=r"there is no store at .*jobs\.db: run `jobrunner db upgrade`"
    ):
        migrations.check(Store(url_of(empty)))
    assert not empty.parent.exists()


def test_a_schema_that_is_missing_is_refused_with_the_remedy(store: Store, path: Path) -> None:
    set_revision(path, None)
    for verb in (migrations.check, migrations.prepare):
        with pytest.raises(
            SchemaVersionError, match=r"schema of .* is missing, .*: run `jobrunner db upgrade`"
        ):
            verb(store)


def test_another_programs_file_is_refused_and_left_alone(empty: Path) -> None:
    empty.parent.mkdir()
    connection = sqlite3.connect(empty)
    connection.execute("CREATE TABLE recipe (name TEXT)")
    connection.close()
    store = Store(url_of(empty))
    with pytest.raises(SchemaVersionError, match=r"schema of .* is missing"):
        migrations.prepare(store)
    store.close()
    assert [name for name, _ in schema(empty)] == ["recipe"]


def test_a_store_of_the_first_schema_is_upgraded_with_all_that_is_in_it(empty: Path, path: Path) -> None:
    empty.parent.mkdir()
    old = Store(url_of(empty))
    command.upgrade(upgrades.config(old), "0001")
    with old.write(durable=True) as connection:
        submit_as_ever(connection)
    with pytest.raises(
        SchemaVersionError, match=r"is 0001, this program needs .*: run `jobrunner db upgrade`"
    ):
        migrations.prepare(old)
    migrations.upgrade(old)
    upgrades.differences(old)
    assert works(old)
    assert schema(empty) == schema(path)
    old.close()


def test_idempotency_keys_from_before_there_were_tokens_are_kept_and_those_of_tokens_do_not_go_back(
    empty: Path,
) -> None:
    empty.parent.mkdir()
    store = Store(url_of(empty))
    command.upgrade(upgrades.config(store), "0002")
    with store.write(durable=True) as connection:
        job_id = submit_as_ever(connection)
        connection.exec_driver_sql("INSERT INTO idempotency_key VALUES ('k', 'd', 1, 1)")
    command.upgrade(upgrades.config(store), "0003")
    with store.write(durable=True) as connection:
        assert idempotency.find(connection, 0, "k") == Kept("d", range(job_id, job_id + 1))
        idempotency.keep(connection, 1, "k", "e", [job_id])
    command.downgrade(upgrades.config(store), "0002")
    with store.read() as connection:
        rows = connection.exec_driver_sql("SELECT key, digest, job_id, jobs FROM idempotency_key").all()
    assert rows == [("k", "d", job_id, 1)]
    migrations.upgrade(store)
    assert works(store)
    store.close()


def test_jobs_are_counted_right_before_and_after_it_is_left_to_a_trigger(empty: Path) -> None:
    empty.parent.mkdir()
    store = Store(url_of(empty))
    command.upgrade(upgrades.config(store), "0006")
    before = schema(empty)
    with store.write(durable=True) as connection:
        ids = jobs.submit(connection, [new(queue=queue) for queue in "aabb"], now=START)
        cancel_as_with_a_trigger(connection, ids[0])
    migrations.upgrade(store)
    with store.write(durable=True) as connection:
        moves.cancel_queued(connection, ids[1:3], now=START)
        audit(connection)
    command.downgrade(upgrades.config(store), "0006")
    assert [words(sql) for _, sql in schema(empty)] == [words(sql) for _, sql in before]
    with store.write(durable=True) as connection:
        cancel_as_with_a_trigger(connection, ids[3])
        audit(connection)
        assert jobs.counts(connection)[State.CANCELLED] == 4
    store.close()


def cancel_as_with_a_trigger(connection: Connection, job_id: int) -> None:
    connection.exec_driver_sql(
        "UPDATE job SET state = 'cancelled', finished_at = 0, version = 2 WHERE id = ?", (job_id,)
    )
    connection.exec_driver_sql(
        "INSERT INTO event (job_id, seq, kind, attempt, at, data)"
        " VALUES (?, 2, 'state', 0, 0, '{\"state\":\"cancelled\"}')",
        (job_id,),
    )


def words(sql: str | None) -> list[str]:
    return (sql or "").split()


# -- with one more migration than there is today ---------------------------------------------------


MOOD = """
import sqlalchemy as sa
from alembic import op

revision = "mood"
down_revision = "HEAD"


def upgrade():
    op.add_column("job", sa.Column("mood", sa.Text()))
    if MOODY:
        raise RuntimeError("not today")
"""
VERB = """
import sys
from pathlib import Path
import jobrunner
from jobrunner.errors import JobrunnerError
from jobrunner.store import migrations
from jobrunner.store.engine import Store

assert Path(jobrunner.__file__).is_relative_to(Path.cwd())
try:
    getattr(migrations, sys.argv[1])(Store(sys.argv[2]))
except (JobrunnerError, RuntimeError) as error:
    print(error)
"""


@dataclass
class LaterProgram:
    """A copy of this program with one more migration."""

    home: Path

    def __post_init__(self) -> None:
        package = Path(migrations.__file__).parents[1]
        shutil.copytree(package, self.home / "jobrunner", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(package.parent / "migrations", self.home / "migrations")

    def does(self, verb: str, path: Path, *, moody: bool = False) -> str:
        """Run one function of `migrations`; return the error's message, or an empty text."""
        migration = MOOD.replace("MOODY", str(moody)).replace("HEAD", HEAD)
        (self.home / "migrations" / "versions" / "mood.py").write_text(migration, encoding="ascii")
        program = [sys.executable, "-c", VERB, verb, url_of(path)]
        ran = subprocess.run(
            program, cwd=self.home, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        )
        return ran.stdout.strip()


@pytest.fixture
def later(tmp_path: Path) -> LaterProgram:
    return LaterProgram(tmp_path / "later")


@pytest.fixture
def used(path: Path) -> Path:
    """A store with a job in it, which nobody has open."""
    store = Store(url_of(path))
    assert works(store)
    store.close()
    return path


def test_an_older_schema_is_refused_with_the_remedy_until_it_is_upgraded(
    used: Path, later: LaterProgram
) -> None:
    for verb in ("check", "prepare"):
        told = later.does(verb, used)
        remedy = f"run `jobrunner db upgrade` with `--database-url sqlite:///{used}`"
        assert told == f"the schema of {used} is {HEAD}, this program needs mood: {remedy}"
    assert later.does("upgrade", used) == ""
    assert later.does("check", used) == ""
    connection = sqlite3.connect(used)
    assert connection.execute("SELECT id, state, mood FROM job").fetchall() == [(1, "queued", None)]
    connection.close()


def test_a_newer_schema_is_refused_with_the_remedy(used: Path, later: LaterProgram) -> None:
    assert later.does("upgrade", used) == ""
    before = schema(used)
    store = Store(url_of(used))
    for verb in (migrations.check, migrations.prepare, migrations.upgrade):
        with pytest.raises(SchemaVersionError, match=r"mood.*it was made by a newer jobrunner: install that"):
            verb(store)
    store.close()
    assert schema(used) == before


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(used: Path, later: LaterProgram) -> None:
    before = schema(used)
    assert later.does("upgrade", used, moody=True) == "not today"
    assert schema(used) == before
    store = Store(url_of(used))
    migrations.check(store)
    assert works(store)
    store.close()
    assert later.does("upgrade", used) == ""
