"""The table of commands: quick, honest about what there is, and never a traceback."""

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import jobrunner
from jobrunner.cli.main import main
from jobrunner.settings import documented

NAMES = main.list_commands(click.Context(main))


def _command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def _help(*arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--help"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


# -- what it loads -------------------------------------------------------------------------------

HEAVY = "flask|gunicorn|sqlalchemy|alembic|marshmallow|rich|jsonschema_rs|numpy"


def _loaded(*arguments: str) -> set[str]:
    code = (
        "import atexit, sys\n"
        "from jobrunner.cli.main import main\n"
        f"atexit.register(lambda: print(*(set({HEAVY!r}.split('|')) & sys.modules.keys()), file=sys.stderr))\n"
        f"main({list(arguments)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["submit", "--help"], ["list", "--url", "x:1"]]
)
def test_what_need_not_load_anything_heavy_does_not(arguments: list[str]) -> None:
    assert _loaded(*arguments) == set()


def test_what_needs_the_store_loads_it() -> None:
    assert "sqlalchemy" in _loaded("db", "--help"), "else the test above shows nothing"


# -- help ----------------------------------------------------------------------------------------


def test_help_lists_every_command_with_what_it_says_of_itself() -> None:
    text = " ".join(_help().split())
    for name in NAMES:
        assert f"{name} " in text
        assert _command(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_each_command_teaches_by_examples_that_its_parser_takes(name: str) -> None:
    text = _help(name)
    examples = [line for line in text.splitlines() if line.startswith("  $ ") and f"jobrunner {name}" in line]
    assert examples, text
    command = _command(name)
    for example in examples:
        called = example.partition(f"jobrunner {name}")[2].partition("|")[0].partition(")")[0]
        if not isinstance(command, click.Group):
            command.make_context(name, shlex.split(called))


@pytest.mark.parametrize("name", ["serve", "api", "dispatcher"])
def test_each_setting_is_a_flag_of_what_is_served(name: str) -> None:
    flags = {parameter.name: parameter for parameter in _command(name).params}
    for setting, *_ in documented():
        assert f"--{setting.replace('_', '-')}" in flags[setting].opts
    assert set(flags) == {setting for setting, *_ in documented()} | {"config"}


def test_python_dash_m_is_the_command_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"jobrunner {jobrunner.__version__}\n"


@pytest.mark.parametrize(
    "path", sorted(Path(importlib.import_module("jobrunner.cli").__path__[0]).glob("*.py"))
)
def test_every_module_of_the_command_line_can_be_imported_by_itself(path: Path) -> None:
    module = f"jobrunner.cli.{path.stem}".removesuffix(".__init__")
    # In a process of its own: here, whatever it forgets to import may be there already.
    code = f"import sys, {module}; print({module!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


# -- settings ------------------------------------------------------------------------------------

SERVED = [["serve"], ["api"], ["dispatcher"], ["db", "upgrade"], ["db", "check"]]


@pytest.mark.parametrize("command", SERVED)
def test_a_wrong_setting_ends_a_command_with_one_line_and_status_2(command: list[str]) -> None:
    done = CliRunner().invoke(main, [*command, "--data", ""], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: data = '' (from flag --data): must be a path\n"


def _data(*arguments: str, **environ: str) -> str:
    """Return in which directory `db check` looks for the store, given these flags and variables."""
    done = CliRunner(env=environ).invoke(main, ["db", "check", *arguments], catch_exceptions=False)
    assert done.exit_code == 1
    return Path(done.stderr.partition("there is no store at ")[2].partition(":")[0]).parent.name


def test_a_command_takes_its_settings_from_flags_environment_and_file_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobrunner.toml").write_text('data = "by-default-file"', encoding="ascii")
    Path("other.toml").write_text('data = "by-named-file"', encoding="ascii")
    assert _data() == "by-default-file"
    assert _data("--config", "other.toml") == "by-named-file"
    assert _data(JOBRUNNER_CONFIG="other.toml") == "by-named-file"
    assert _data(JOBRUNNER_DATA="by-variable") == "by-variable"
    assert _data("--data", "by-flag", JOBRUNNER_DATA="by-variable") == "by-flag"


def test_db_upgrade_makes_a_store_that_db_check_finds_right(tmp_path: Path) -> None:
    for command in ("upgrade", "check", "upgrade"):
        done = CliRunner().invoke(
            main, ["db", command, "--data", str(tmp_path / "d")], catch_exceptions=False
        )
        assert (done.exit_code, done.stderr) == (0, "")
        assert str(tmp_path / "d" / "jobrunner.db") in done.stdout
