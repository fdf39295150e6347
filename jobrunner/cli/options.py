"""Options that several commands share, and the settings that they lead to."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from jobrunner.cli import completers
from jobrunner.client.client import DEFAULT_URL
from jobrunner.durations import in_words
from jobrunner.lifecycle import State
from jobrunner.settings import Settings, documented, load

Command = TypeVar("Command", bound=Callable[..., Any])

#: the address of the API, for a command that talks to it
url_option: Final = click.option(
    "--url",
    envvar="JOBRUNNER_URL",
    default=DEFAULT_URL,
    show_default=True,
    metavar="URL",
    help="Address of the API; or set JOBRUNNER_URL.  Its token is taken from JOBRUNNER_TOKEN, and from no flag, for "
    "everybody may read a command line.",
)
json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def id_argument(*states: State, several: bool = False) -> Callable[[Command], Command]:
    """Give a command a job's id, or several; shells propose the newest jobs in these states."""
    name, metavar, nargs = ("job_ids", "ID...", -1) if several else ("job_id", "ID", 1)
    return click.argument(
        name,
        metavar=metavar,
        nargs=nargs,
        required=True,
        type=click.IntRange(min=1),
        shell_complete=completers.job_ids(*states),
    )


def settings_options(*only: str) -> Callable[[Command], Command]:
    """Give a command a flag for each setting (or for some), and `--config`; `settings` reads them."""
    table = [row for row in documented() if not only or row[0] in only]

    def decorate(command: Command) -> Command:
        for name, default, meaning, allowed in reversed(table):
            command = _setting_option(name, default, meaning, allowed)(command)
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="JOBRUNNER_CONFIG",
            metavar="FILE",
            help="Settings in TOML; or set JOBRUNNER_CONFIG.  [default: jobrunner.toml, if there is one]",
        )(command)

    return decorate


def _setting_option(name: str, default: Any, meaning: str, allowed: str) -> Callable[[Command], Command]:
    several = isinstance(default, tuple)
    text = f"{meaning[0].upper()}{meaning[1:]} ({allowed})."
    shown = in_words(default) if "duration" in allowed else ",".join(default) if several else default
    if "default:" not in meaning:
        text += f"  [default: {shown}]"
    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, name, multiple=several, metavar=_metavar(default, allowed), help=text)


def _metavar(default: Any, allowed: str) -> str:
    if "size" in allowed:
        return "SIZE"
    if "duration" in allowed:
        return "TIME"
    kinds = {int: "N", float: "SECONDS", Path: "DIR", tuple: "MODULE", str: "TEXT"}
    return next(word for kind, word in kinds.items() if isinstance(default, kind))


def settings(config: Path | None, flags: dict[str, str | Sequence[str] | None]) -> Settings:
    """Return the settings in force, given what `settings_options` collected.

    Raises:
        SettingError: a value is not allowed.
    """
    given = {
        name: ",".join(value) if value and isinstance(value, tuple) else value
        for name, value in flags.items()
    }
    return load(given, os.environ, config)
