import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import task
from jobrunner.errors import DuplicateTaskError
from jobrunner.tasks.loading import catalogue, described, load
from jobrunner.tasks.registry import Task

Registry = dict[str, Task]
GOOD = "from jobrunner import task\n\n@task\ndef run(n: int = 1) -> int:\n    '''Run.'''\n    return n\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Iterator[Path]:
    """A directory on the path; what is imported from it is forgotten when the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_that_can_be_imported_registers_its_tasks(modules: Path, registry: Registry) -> None:
    (modules / "good_tasks.py").write_text(GOOD, encoding="utf-8")
    assert list(load(["good_tasks"])) == [("good_tasks", None)]
    assert list(registry) == ["good_tasks.run"]
    assert registry["good_tasks.run"].function() == 1


def test_a_module_in_a_package_is_named_in_full(modules: Path, registry: Registry) -> None:
    (modules / "deep_tasks").mkdir()
    (modules / "deep_tasks" / "inner.py").write_text(GOOD, encoding="utf-8")
    assert list(load(["deep_tasks.inner"])) == [("deep_tasks.inner", None)]
    assert list(registry) == ["deep_tasks.inner.run"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def (:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "from jobrunner import task\n@task\nasync def run(): ...",
            "TaskDefinitionError: run: a task cannot",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_its_traceback_and_keeps_nobody_else_out(
    modules: Path, registry: Registry, code: str, told: str
) -> None:
    (modules / "bad_tasks.py").write_text(code, encoding="utf-8")
    (modules / "good_tasks.py").write_text(GOOD, encoding="utf-8")
    (bad, traceback), good = load(["bad_tasks", "good_tasks"])
    assert bad == "bad_tasks"
    assert traceback is not None
    assert "Traceback (most recent call last)" in traceback
    assert told in traceback
    assert good == ("good_tasks", None)
    assert list(registry) == ["good_tasks.run"]


def test_a_module_that_registers_a_task_and_then_fails_offers_nothing(
    modules: Path, registry: Registry
) -> None:
    (modules / "half_tasks.py").write_text(f"import part_tasks, good_tasks\n{GOOD}\n1 / 0", encoding="utf-8")
    (modules / "part_tasks.py").write_text(
        f"try:\n    import gone_tasks\nexcept ZeroDivisionError: ...\n{GOOD}", encoding="utf-8"
    )
    (modules / "gone_tasks.py").write_text(f"{GOOD}\n1 / 0", encoding="utf-8")
    (modules / "good_tasks.py").write_text(GOOD, encoding="utf-8")
    (half, traceback), good = load(["half_tasks", "good_tasks"])
    assert (half, good) == ("half_tasks", ("good_tasks", None))
    assert "ZeroDivisionError" in (traceback or "")
    assert sorted(registry) == ["good_tasks.run", "part_tasks.run"]


def test_the_traceback_names_the_users_line_and_not_the_machinery_of_import(modules: Path) -> None:
    (modules / "bad_tasks.py").write_text("from other_tasks import broken", encoding="utf-8")
    (modules / "other_tasks.py").write_text("def broken():\n    1 / 0\n\nbroken()", encoding="utf-8")
    ((_, traceback),) = load(["bad_tasks"])
    assert traceback is not None
    assert f'{modules}/other_tasks.py", line 2' in traceback
    assert traceback.count("\n") < 20


@pytest.mark.usefixtures("modules")
def test_a_module_that_is_not_there_is_told() -> None:
    ((name, traceback),) = load(["no_such_tasks"])
    assert name == "no_such_tasks"
    assert traceback is not None
    assert "No module named 'no_such_tasks'" in traceback


def test_two_tasks_of_one_name_in_two_modules_stop_it_all(modules: Path) -> None:
    for name in ("one_tasks", "two_tasks"):
        code = GOOD.replace("@task", "@task(name='same')")
        (modules / f"{name}.py").write_text(code, encoding="utf-8")
    with pytest.raises(DuplicateTaskError, match="two tasks are named 'same'"):
        list(load(["one_tasks", "two_tasks"]))


def test_a_keyboard_interrupt_is_no_fault_of_the_module(modules: Path) -> None:
    (modules / "slow_tasks.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        list(load(["slow_tasks"]))


def test_a_task_is_described_by_its_name_doc_parameters_and_options(registry: Registry) -> None:
    @task(name="train", timeout=60, memory_limit="1G")
    def train(dataset: str, epochs: int = 10) -> None:
        """Fit a classifier."""

    assert described(registry["train"]) == {
        "name": "train",
        "doc": "Fit a classifier.",
        "params": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"dataset": {"type": "string"}, "epochs": {"type": "integer", "default": 10}},
            "required": ["dataset"],
            "additionalProperties": False,
        },
        "options": {
            "timeout": 60,
            "retries": 0,
            "crash_retries": 2,
            "memory_limit": 1 << 30,
            "queue": "default",
            "priority": 0,
        },
    }


def test_the_catalogue_lists_all_tasks_by_name_and_is_json(registry: Registry) -> None:
    for name in ("b", "c", "a"):
        task(name=name)(lambda n=0: n)
    assert list(registry) == ["b", "c", "a"]
    found = catalogue()
    assert [one["name"] for one in found] == ["a", "b", "c"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_tasks_the_catalogue_is_empty(registry: Registry) -> None:
    assert registry == {}
    assert catalogue() == []
