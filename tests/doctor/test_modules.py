import os
from pathlib import Path

import pytest

from jobrunner.doctor import modules
from jobrunner.doctor.findings import Grade
from jobrunner.tasks.loading import in_one_line
from tests.dispatcher.running import MODULES, World, is_gone, told
from tests.doctor.looking import grades, look, serious, warnings


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on the path of what the doctor starts."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(MODULES)]))
    return tmp_path


def test_modules_that_can_be_imported_are_counted_with_their_tasks(path: Path) -> None:
    (path / "two.py").write_text("from jobrunner import task\n@task\ndef a(): ...\n@task\ndef b(): ...\n")
    assert list(modules.check(look(path, tasks=("two",)))) == [(Grade.OK, "two can be imported: 2 tasks")]


def test_each_module_that_fails_is_named_with_what_python_says(path: Path) -> None:
    (path / "good.py").write_text("")
    (path / "raises.py").write_text("1 / 0")
    (path / "dies.py").write_text("import os\nos._exit(3)")
    found = serious(modules.check(look(path, tasks=("good", "raises", "dies", "missing"))))
    assert sorted(text.partition("; ")[0] for text in found) == [
        "dies cannot be imported: importing it ended the process: exit code 3",
        "missing cannot be imported: ModuleNotFoundError: No module named 'missing'",
        "raises cannot be imported: ZeroDivisionError: division by zero",
    ]


def test_two_tasks_of_one_name_keep_every_dispatcher_from_starting(path: Path) -> None:
    for name in ("one", "other"):
        (path / f"{name}.py").write_text("from jobrunner import task\n@task(name='same')\ndef run(): ...\n")
    (said,) = serious(modules.check(look(path, tasks=("one", "other"))))
    assert said.startswith("no dispatcher can start: two tasks are named 'same'")


def test_a_module_that_never_ends_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "PATIENCE_SECONDS", 1.0)
    pid_of_it = told(path, "pid")
    (path / "hangs.py").write_text(
        "import os, pathlib, signal\n"
        f"pathlib.Path({str(path / 'pid')!r}).write_text(str(os.getpid()))\nsignal.pause()\n"
    )
    (said,) = warnings(modules.check(look(path, tasks=("hangs",))))
    assert said.startswith("hangs: not imported within 1 s")
    pid = pid_of_it()  # nothing, if a second was too short for it to begin
    assert not pid or is_gone(int(pid))


def test_what_a_dispatcher_could_not_import_is_told_once_with_its_reload(world: World, path: Path) -> None:
    (world.data / "broken.py").write_text("raise OSError('no licence')")
    daemon = world.start(tasks="faults,broken")
    (path / "broken.py").write_text("raise OSError('no licence')")
    (said,) = modules.check(look(world.data, tasks=("faults", "broken")))
    assert said[0] is Grade.SERIOUS
    assert said[1].startswith(
        f"dispatcher {daemon.entry.id} does not serve broken: OSError: no licence; correct it"
    )
    assert said[1].endswith(f"kill -HUP {daemon.pid}")


def test_a_module_that_broke_while_a_dispatcher_serves_it_is_a_warning(world: World, path: Path) -> None:
    world.start()
    assert grades(modules.check(look(world.data))) == [Grade.OK]
    (path / "faults.py").write_text("import nowhere")
    (said,) = warnings(modules.check(look(world.data)))
    assert said.startswith(
        "faults cannot be imported: ModuleNotFoundError: No module named 'nowhere'; the next"
    )


def test_of_a_traceback_the_last_line_says_it() -> None:
    assert (
        in_one_line("Traceback (most recent call last):\n  File ...\nValueError: no\n\n") == "ValueError: no"
    )
    assert in_one_line("it took more than 120 s\nprinted") == "it took more than 120 s"
    assert in_one_line(" \n") == "it cannot be imported"
