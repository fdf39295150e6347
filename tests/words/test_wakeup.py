import logging
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobrunner.wakeup import Bell, wake


def rings(bell: Bell) -> bool:
    """Whether somebody has rung `bell`."""
    return bool(select.select([bell], [], [], 0)[0])


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_ring_makes_the_bell_readable_until_it_is_cleared(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "dispatchers", "1.sock")
    assert not rings(bell)
    wake(tmp_path / "dispatchers")
    wake(tmp_path / "dispatchers")
    assert rings(bell)
    bell.clear()
    assert not rings(bell)
    wake(tmp_path / "dispatchers")
    assert rings(bell)
    bell.close()


def test_clearing_a_bell_that_nobody_rang_does_not_wait(tmp_path: Path) -> None:
    bell = Bell(tmp_path, "1.sock")
    bell.clear()  # a bell that waited would meet the test's time limit
    assert not rings(bell)
    wake(tmp_path)
    assert rings(bell)
    bell.close()


def test_a_ring_from_another_process_is_heard(tmp_path: Path) -> None:
    bell = Bell(tmp_path, "1.sock")
    code = f"from pathlib import Path; from jobrunner.wakeup import wake; wake(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert rings(bell)
    bell.close()


def test_every_bell_rings(tmp_path: Path) -> None:
    bells = [Bell(tmp_path, f"{number}.sock") for number in range(3)]
    wake(tmp_path)
    assert all(rings(bell) for bell in bells)
    for bell in bells:
        bell.close()


def test_a_directory_deeper_than_a_socket_address_is_long_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-name-of-a-directory"] * 6)
    assert len(str(deep)) > 107
    bell = Bell(deep, "1.sock")
    wake(deep)
    assert rings(bell)
    bell.close()


def test_a_bell_whose_owner_is_gone_is_passed_over(tmp_path: Path) -> None:
    gone = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    gone.bind(str(tmp_path / "0.sock"))
    gone.close()
    bell = Bell(tmp_path, "1.sock")
    wake(tmp_path)
    assert rings(bell)
    bell.close()


def test_what_is_no_bell_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "0.sock").write_text("a plain file")
    (tmp_path / "1.sock").mkdir()
    (tmp_path / "notes.txt").write_text("not even named like one")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "2.sock"))
    bell = Bell(tmp_path, "3.sock")
    wake(tmp_path)
    assert rings(bell)
    bell.close()
    listener.close()


def test_a_full_bell_holds_nobody_up(tmp_path: Path) -> None:
    bell = Bell(tmp_path, "1.sock")

    def ring_often() -> None:
        for _ in range(2000):
            wake(tmp_path)

    rung = threading.Thread(target=ring_often, daemon=True)
    rung.start()
    rung.join(20)
    assert not rung.is_alive()
    assert rings(bell)
    bell.clear()
    assert not rings(bell)
    bell.close()


def test_where_no_dispatcher_has_run_nothing_happens(tmp_path: Path) -> None:
    wake(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_opened_is_logged_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "dispatchers").write_text("a file")
    with caplog.at_level(logging.WARNING):
        wake(tmp_path / "dispatchers")
    assert "no dispatcher could be woken" in caplog.text


def test_a_closed_bell_leaves_nothing_behind(tmp_path: Path) -> None:
    bell = Bell(tmp_path, "1.sock")
    bell.close()
    assert list(tmp_path.iterdir()) == []


def test_a_bell_takes_the_place_of_its_own_one_that_a_crash_left(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(tmp_path / "1.sock"))
    left.close()
    bell = Bell(tmp_path, "1.sock")
    wake(tmp_path)
    assert rings(bell)
    bell.close()


def test_a_new_bell_removes_dead_ones_and_leaves_living_ones(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(tmp_path / "1.sock"))
    dead.close()
    living = Bell(tmp_path, "2.sock")
    an_hour_ago = (tmp_path / "2.sock").stat().st_mtime - 3600
    for name in ("1.sock", "2.sock"):
        os.utime(tmp_path / name, (an_hour_ago, an_hour_ago))
    new = Bell(tmp_path, "3.sock")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.sock", "3.sock"]
    living.close()
    new.close()


def test_waking_leaves_no_descriptor_open(tmp_path: Path) -> None:
    bell = Bell(tmp_path, "1.sock")
    before = open_descriptors()
    wake(tmp_path)
    assert open_descriptors() == before
    bell.close()


def test_a_bell_that_cannot_be_hung_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match="path too long") as refused:
        Bell(tmp_path, "x" * 200)
    assert open_descriptors() == before, refused
