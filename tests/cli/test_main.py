"""The table of commands: quick, honest about what there is, and never a traceback."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click
import pytest
from alembic import command as alembic
from click.testing import CliRunner, Result

import jobrunner
from jobrunner.cli.main import main
from jobrunner.clock import utc_now
from jobrunner.dispatcher.loop import this_process
from jobrunner.settings import Settings, documented
from jobrunner.store import dispatchers, migrations, upgrades
from jobrunner.store.engine import Store

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
    "arguments",
    [["--help"], ["--version"], ["submit", "--help"], ["list", "--url", "x:1"], ["completion", "bash"]],
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


def _all_commands(command: click.Command = main, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command, `db check` too."""
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield (*path, name)
        found = command.get_command(context, name)
        assert found is not None
        yield from _all_commands(found, *path, name)


def _found(path: tuple[str, ...]) -> click.Command:
    found: click.Command = main
    for name in path:
        assert isinstance(found, click.Group)
        command = found.get_command(click.Context(found), name)
        assert command is not None
        found = command
    return found


@pytest.mark.parametrize("path", list(_all_commands()), ids=" ".join)
def test_each_command_teaches_by_examples_that_its_parser_takes(path: tuple[str, ...]) -> None:
    text, called = _help(*path), f"jobrunner {' '.join(path)}"
    examples = [line for line in text.splitlines() if line.startswith("  $ ") and called in line]
    assert examples, text
    command = _found(path)
    for example in examples:
        words = re.split(r"[|)#]|&&", example.partition(called)[2])[0]
        if not isinstance(command, click.Group):
            command.make_context(path[-1], shlex.split(words))


def test_help_lists_the_commands_by_what_they_are_for_and_fits_a_terminal() -> None:
    lines = _help().splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options:", "Try it:", "Jobs:", "The service:"]
    assert max(map(len, lines)) <= 80
    starts = {len(line) - len(line[13:]) for line in lines if re.match("  [a-z]", line)}
    assert starts == {13}


def test_every_command_that_talks_to_the_api_says_where_its_token_comes_from() -> None:
    talking = [path for path in _all_commands() if any(one.name == "url" for one in _found(path).params)]
    assert len(talking) >= 13
    for path in talking:
        assert "JOBRUNNER_TOKEN" in _help(*path)
        assert "--token" not in _help(*path)


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


def test_the_schema_is_not_changed_under_a_dispatcher_that_is_at_work(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'jobrunner.db'}")
    migrations.prepare(store)
    with store.write(durable=False) as connection:
        dispatcher_id = dispatchers.register(connection, this_process(), workers=1, now=utc_now())
    alembic.downgrade(upgrades.config(store), "0006")

    def upgraded() -> Result:
        return CliRunner().invoke(main, ["db", "upgrade", "--data", str(tmp_path)], catch_exceptions=False)

    refused = upgraded()
    assert refused.exit_code == 1
    assert f"dispatcher {dispatcher_id} (process {os.getpid()}) is at work" in refused.stderr
    assert "stop it" in refused.stderr
    with store.write(durable=False) as connection:
        dispatchers.end(connection, dispatcher_id, now=utc_now())
        elsewhere = replace(this_process(), host="elsewhere", place="elsewhere")
        dispatcher_id = dispatchers.register(connection, elsewhere, workers=1, now=utc_now())
    assert f"dispatcher {dispatcher_id} " in upgraded().stderr, "it has just given a sign of life"
    with store.write(durable=False) as connection:
        long_ago = utc_now() - timedelta(seconds=Settings().lease_seconds)
        dispatchers.heartbeat(connection, dispatcher_id, slots=[], now=long_ago)
    assert upgraded().exit_code == 0
    migrations.check(store)
    store.close()


def test_a_store_that_is_not_there_is_told_with_the_command_that_makes_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def told(*flags: str) -> str:
        return CliRunner().invoke(main, ["db", "check", *flags], catch_exceptions=False).stderr.strip()

    remedy = "run `jobrunner db upgrade`"
    assert told().endswith(remedy)
    assert told("--data", "other").endswith(f"{remedy} with `--data {tmp_path}/other`")
    url = f"sqlite:///{tmp_path}/x.db"
    assert told("--database-url", url).endswith(f"{remedy} with `--database-url {url}`")
    assert told("gone.db") == "Error: gone.db: no such file"
