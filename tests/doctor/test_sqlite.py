import sqlite3
from pathlib import Path

import pytest

from jobrunner.doctor import sqlite
from jobrunner.doctor.findings import Grade
from jobrunner.doctor.sqlite import has_wal_reset_bug, judged, judged_wal
from jobrunner.store import checkup
from jobrunner.store.engine import CHECKPOINT_BYTES_WITHOUT_DAEMON, Store
from tests.dispatcher.running import World
from tests.doctor.looking import grades, look, serious

RULE: dict[str, object] = {"wal_autocheckpoint": 0, "journal_mode": "wal"}


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 44, 9), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((4, 0, 0), False),
    ],
)
def test_the_versions_that_can_lose_commits_are_known(version: tuple[int, ...], has_it: bool) -> None:
    assert has_wal_reset_bug(version) is has_it


@pytest.mark.parametrize(
    ("version", "pragmas", "grade"),
    [
        ((3, 40, 1), RULE, Grade.OK),
        ((3, 40, 1), None, Grade.OK),
        ((3, 40, 1), RULE | {"wal_autocheckpoint": 1000}, Grade.SERIOUS),
        ((3, 40, 1), RULE | {"journal_mode": "delete"}, Grade.SERIOUS),
        ((3, 51, 3), RULE | {"wal_autocheckpoint": 1000}, Grade.OK),
    ],
)
def test_the_bug_is_serious_where_the_checkpoint_rule_is_not_in_force(
    version: tuple[int, ...], pragmas: dict[str, object] | None, grade: Grade
) -> None:
    assert grades(judged(version, pragmas)) == [grade]


def test_the_rule_is_seen_on_a_connection_of_the_store(world: World) -> None:
    with world.store.read() as connection:
        assert {name: checkup.pragma(connection, name) for name in RULE} == RULE
    assert grades(sqlite.library(look(world.data))) == [Grade.OK]


@pytest.mark.parametrize(("has_dispatcher", "remedy"), [(True, "fuser"), (False, "start a dispatcher")])
def test_a_log_that_nobody_empties_is_told(has_dispatcher: bool, remedy: str) -> None:
    ((grade, text),) = judged_wal(CHECKPOINT_BYTES_WITHOUT_DAEMON + 1, has_dispatcher)
    assert (grade, remedy in text) == (Grade.WARNING, True)
    assert grades(judged_wal(CHECKPOINT_BYTES_WITHOUT_DAEMON, has_dispatcher)) == [Grade.OK]


# -- the schema, the file ------------------------------------------------------------------------------


def test_a_store_as_it_should_be_is_right(world: World) -> None:
    situation = look(world.data)
    assert grades([*sqlite.schema(situation), *sqlite.integrity(situation)]) == [Grade.OK, Grade.OK]


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("0001", "run `jobrunner db upgrade`"), ("9999", "install that version, or a newer one")],
)
def test_a_schema_of_another_version_is_serious_and_its_remedy_is_named(
    world: World, revision: str, remedy: str
) -> None:
    with world.store.write(durable=True) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))
    situation = look(world.data)
    (said,) = serious(sqlite.schema(situation))
    assert remedy in said
    assert not situation.is_readable


def test_a_file_that_is_no_store_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jobrunner.db"
    for content in (b"", b"no database at all" * 100):
        path.write_bytes(content)
        assert len(serious(sqlite.schema(look(tmp_path)))) == 1
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_a_copy_that_no_dispatcher_has_opened_yet_is_left_as_it_is(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "jobrunner.db"
    copy.parent.mkdir()
    with sqlite3.connect(world.store.path) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    before = copy.read_bytes()
    (said,) = serious(sqlite.schema(look(copy.parent)))
    assert "no dispatcher has opened it yet" in said
    assert copy.read_bytes() == before


def test_a_damaged_file_is_serious(world: World) -> None:
    world.submit("nothing", times=2000)
    world.store.close()
    size = world.store.path.stat().st_size
    with world.store.path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\x55" * 8192)
    (said,) = serious(sqlite.integrity(look(world.data)))
    assert "the store is damaged" in said
    assert "jobrunner db check" in said


def test_a_look_at_a_large_file_ends_in_time_and_leaves_the_connection_as_it_was(world: World) -> None:
    world.submit("nothing", times=5000)
    with world.store.read() as connection:
        assert checkup.damage(connection, seconds=-1.0) is None
        assert connection.exec_driver_sql(
            "SELECT sum(length(data)) FROM event, (SELECT 1 UNION SELECT 2)"
        ).scalar()
        assert checkup.damage(connection, seconds=60.0) == ""


def test_the_store_is_not_changed_by_being_looked_at(world: World) -> None:
    world.submit("nothing")
    world.store.close()
    before = world.store.path.read_bytes()
    situation = look(world.data)
    assert [*sqlite.library(situation), *sqlite.schema(situation), *sqlite.wal(situation)]
    situation.store.close()
    assert world.store.path.read_bytes() == before
    assert Store(situation.settings.url).wal_bytes() == 0
