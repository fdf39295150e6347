"""The table of commands.

Each lives in a module of its own, imported when it is called: `jobrunner --help` and `jobrunner submit`
load neither web server nor store.
"""

import importlib
import io
import sys
from typing import Any, Final, NamedTuple

import click

import jobrunner
from jobrunner.cli.teaching import Group
from jobrunner.errors import JobrunnerError, SettingError


class _Entry(NamedTuple):
    """Where a command is, and what it does in a few words."""

    place: str
    summary: str


_COMMANDS: Final = {
    "demo": _Entry("demo:demo", "Run the examples on all cores, check their results, and stop."),
    "serve": _Entry("serve:serve", "Run API and dispatcher together, in the foreground."),
    "submit": _Entry("submit:submit", "Submit a job, and watch it with --follow."),
    "show": _Entry("jobs:show", "Show a job."),
    "list": _Entry("jobs:list_", "List jobs, newest first."),
    "log": _Entry("jobs:log", "Print what a job printed."),
    "cancel": _Entry("jobs:cancel", "Cancel a job, running or not."),
    "retry": _Entry("jobs:retry", "Queue a failed or cancelled job again."),
    "tasks": _Entry("tasks:tasks", "List the tasks, or show how to call one."),
    "api": _Entry("api:api", "Run the API alone."),
    "dispatcher": _Entry("dispatcher:dispatcher", "Run the dispatcher alone."),
    "token": _Entry("token:token", "Say who may use the API."),
    "db": _Entry("db:db", "Look after the store: check it, back it up, upgrade its schema."),
    "doctor": _Entry("doctor:doctor", "Find what would lose jobs or keep them from running."),
    "selftest": _Entry("selftest:selftest", "Kill everything at random, then audit what is left."),
}


class _Failure(click.ClickException):
    """What is printed in place of a traceback: one line on stderr."""

    def __init__(self, error: JobrunnerError) -> None:
        super().__init__(str(error) or (error.__doc__ or type(error).__name__).splitlines()[0])


class _WrongSetting(_Failure):
    exit_code = 2


class _Commands(Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"jobrunner.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingError as error:
            raise _WrongSetting(error) from error
        except JobrunnerError as error:
            raise _Failure(error) from error


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command explains itself, with examples: jobrunner submit --help",
)
@click.version_option(jobrunner.__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Run CPU-bound Python functions on all the cores of this machine.

    $ jobrunner demo         # see it work
    $ jobrunner serve        # start it, here and now
    $ jobrunner tasks        # what can be run
    $ jobrunner submit examples.primes n=1000000 --follow
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is better escaped than fatal
            stream.reconfigure(errors="backslashreplace")
