"""No statement reads all of a table that grows: what SQLite says of its plan, for each that the product has.

A function of the store that asks something, and is not reached here, fails a test: so a new statement comes under this
by itself.  A plan does not tell how far an index is walked; for that, SQLite's work is counted in stores of two sizes.
"""

import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.api.world import made_in
from tests.bench.growth.asking import Asked
from tests.bench.growth.filling import fill
from tests.store.recording import STEP, Recorded, recorded
from tests.store.surface import ask_everything, asking_functions, called

#: What may be read from end to end, and why.
SMALL: Mapping[str, str] = {
    "alembic_version": "one row",
    "dispatcher USING INDEX ix_dispatcher_alive": "those that live",
    "job USING INDEX ix_job_ready": "`jobrunner doctor` counts what is queued",
    "job USING COVERING INDEX ix_job_ready_map": "the same",
    "job USING INDEX ix_job_later": "the same",
    "sqlite_master": "the schema",
    "paused_queue": "a row for each paused queue",
    "removal": "what is just being removed",
    "span": "the ranges that a request names",
    "tally": "a row for each queue and state, and of queues there are 1,000 at most",
    "task": "a row for each task that somebody serves",
    "token": "a row for each token, and these are made by hand",
}
#: What may be sorted or gathered, by a part of the statement, and why.
GATHERED: Mapping[str, str] = {
    "FROM task ": "small",
    "FROM tally ": "small",
    "FROM throughput ": "the samples of the window that is asked for",
    "dispatcher.ended_at IS NULL": "those that live",
    "job.dispatcher_id = ?": "what one dispatcher has in hand",
    "crash_retries_used > ?": "LOST_AMONG jobs that may run now, and as many that wait",
    "SELECT job.task, count(*) AS jobs": "`jobrunner doctor` counts what is queued",
}
#: What may be read from end to end all the same, likewise.
READ: Mapping[str, str] = {
    "INSERT INTO dispatcher ": "it would look for broken references, were any left open within the transaction",
}
#: Modules that are left out, and why.
LEFT_OUT: Mapping[str, str] = {
    "audit": "reads everything, for somebody has asked for that",
    "audit_items": "the same",
    "backup": "copies everything, likewise",
    "checkup": "of what it asks, `damage` reads everything, but looks at the clock",
    "migrations": "change the schema",
    "upgrades": "the same",
    "engine": "sets connections up",
}
DATA = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


class Surface(NamedTuple):
    """What was asked of a store: statements with parameters, and functions by module."""

    path: Path
    statements: dict[str, Any]
    functions: set[tuple[str, str]]


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> Surface:
    directory = tmp_path_factory.mktemp("filled")
    filled = fill(directory, 1000, 1000)
    world = made_in(tmp_path_factory.mktemp("world"))
    world.store.close()  # so that it opens connections that are recorded
    with recorded() as found, called() as functions:
        asked = Asked(filled)
        ask_everything(asked, world)
        asked.close()
    world.close()
    statements = {sql: values for sql, values in found.statements.items() if DATA.match(sql)}
    return Surface(directory / "jobrunner.db", statements, functions)


def opened(path: str | Path) -> sqlite3.Connection:
    """Open a store so that plans are made anew each time, also when an index is gone."""
    return sqlite3.connect(path, isolation_level=None, cached_statements=0)


def complaints(connection: sqlite3.Connection, statements: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the plans of these statements."""
    found = []
    for sql, values in statements.items():
        flat = " ".join(sql.split())
        for _, _, _, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values):
            reasons = GATHERED if "TEMP B-TREE" in step else READ
            if may_be_long(step) and not any(part in flat for part in reasons):
                found.append(f"{step}: {flat}")
    return found


def may_be_long(step: str) -> bool:
    """Whether this step of a plan may take the longer the more jobs there are."""
    made_here = ("(", "anon_", "CONSTANT")  # of the statement's other parts
    scanned = step.partition("SCAN ")[2]
    is_small = any(f"{scanned} ".startswith(f"{name} ") for name in SMALL) or scanned.startswith(made_here)
    return "TEMP B-TREE" in step or (step.startswith("SCAN ") and not is_small)


def test_every_function_that_asks_the_store_is_reached(surface: Surface) -> None:
    wanted = {one for one in asking_functions() if one[0] not in LEFT_OUT}
    assert wanted - surface.functions == set()


def test_no_statement_reads_all_of_what_grows(surface: Surface) -> None:
    assert len(surface.statements) > 100
    with closing(opened(surface.path)) as connection:
        assert complaints(connection, surface.statements) == []


def test_it_is_the_same_when_somebody_has_analyzed_the_store(surface: Surface, tmp_path: Path) -> None:
    with closing(opened(shutil.copy(surface.path, tmp_path))) as connection:
        connection.execute("ANALYZE")
        assert complaints(connection, surface.statements) == []


def test_each_index_is_needed_by_some_statement(surface: Surface) -> None:
    of_any_use = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE 'CREATE INDEX %'"
    with closing(opened(surface.path)) as connection:
        names = [name for (name,) in connection.execute(of_any_use)]
        assert len(names) > 10
        assert [name for name in names if not _is_missed(connection, name, surface.statements)] == []


def _is_missed(connection: sqlite3.Connection, index: str, statements: Mapping[str, Any]) -> bool:
    connection.execute("BEGIN")
    connection.execute(f"DROP INDEX {index}")
    try:
        return complaints(connection, statements) != []
    except sqlite3.OperationalError as error:  # a statement names it
        return index in str(error)
    finally:
        connection.execute("ROLLBACK")


def test_no_question_makes_more_work_in_a_larger_store(tmp_path: Path) -> None:
    with recorded() as found, ExitStack() as stack:
        stores = []
        for number in (2000, 10_000):
            (tmp_path / str(number)).mkdir()
            stores.append(Asked(fill(tmp_path / str(number), number, number)))
            stack.callback(stores[-1].close)
        few, many = (one.questions for one in stores)
        longer = [name for name in few if not _is_as_short(found, few[name], many[name])]
    assert longer == []


def _is_as_short(found: Recorded, in_few: Callable[[], None], in_many: Callable[[], None]) -> bool:
    taken = []
    for ask in (in_few, in_many):
        ask()  # what is read once and kept
        before = found.steps
        ask()
        taken.append(found.steps - before)
    return taken[1] < taken[0] * 2 + 50 * STEP  # a little, for pages are filled sooner or later
