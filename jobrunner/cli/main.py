"""The table of commands.

Each lives in a module of its own, imported when it is called: `jobrunner --help` and `jobrunner submit`
load neither web server nor store.
"""

import importlib
import io
import os
import signal
import sys
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

import jobrunner
from jobrunner.cli import shells  # noqa: F401 - what bash completes by
from jobrunner.cli.teaching import Group
from jobrunner.errors import JobrunnerError, SettingError


class _Entry(NamedTuple):
    """Where a command is, and what it does in a few words."""

    place: str
    summary: str


_SECTIONS: Final = {
    "Try it": {
        "demo": _Entry("demo:demo", "Run the examples on all cores, check their results, and stop."),
    },
    "Jobs": {
        "tasks": _Entry("tasks:tasks", "List the tasks, or show how to call one."),
        "submit": _Entry("submit:submit", "Submit a job, and watch it with --follow."),
        "show": _Entry("jobs:show", "Show a job."),
        "list": _Entry("jobs:list_", "List jobs, newest first."),
        "wait": _Entry("wait:wait", "Wait until jobs are final; the exit status tells their fate."),
        "result": _Entry("results:result", "Print what a job returned, or each value of a map job."),
        "items": _Entry("results:items", "List the items of a map job, and what became of them."),
        "partials": _Entry("history:partials", "Print what a job has yielded."),
        "log": _Entry("history:log", "Print what a job printed."),
        "attempts": _Entry("history:attempts", "List the runs of a job, and how they ended."),
        "cancel": _Entry("jobs:cancel", "Cancel a job, running or not."),
        "retry": _Entry("jobs:retry", "Queue a failed or cancelled job again."),
        "delete": _Entry("jobs:delete", "Delete a final job, with all that it left."),
        "queues": _Entry("queues:queues", "List the queues; pause and resume them."),
        "top": _Entry("top:top", "Watch workers, throughput and queue, live."),
    },
    "The service": {
        "serve": _Entry("serve:serve", "Run API and dispatcher together, in the foreground."),
        "api": _Entry("api:api", "Run the API alone."),
        "dispatcher": _Entry("dispatcher:dispatcher", "Run the dispatcher alone."),
        "token": _Entry("token:token", "Say who may use the API."),
        "db": _Entry("db:db", "Look after the store: check it, back it up, upgrade its schema."),
        "doctor": _Entry("doctor:doctor", "Find what would lose jobs or keep them from running."),
        "selftest": _Entry("selftest:selftest", "Kill everything at random, then audit what is left."),
        "completion": _Entry("completion:completion", "Have your shell complete what you type."),
    },
}
_COMMANDS: Final = {name: entry for section in _SECTIONS.values() for name, entry in section.items()}


class _Failure(click.ClickException):
    """What is printed in place of a traceback: one line on stderr."""

    def __init__(self, error: JobrunnerError) -> None:
        said = str(error) or (error.__doc__ or type(error).__name__).splitlines()[0]
        from jobrunner.client import ProblemError  # noqa: PLC0415 - a command that goes well may not need it

        is_locked_out = isinstance(error, ProblemError) and error.status == HTTPStatus.UNAUTHORIZED
        super().__init__(f"{said}: {_how_to_get_in()}" if is_locked_out else said)


def _how_to_get_in() -> str:
    has_token = bool(os.environ.get("JOBRUNNER_TOKEN"))
    what = (
        "the one in JOBRUNNER_TOKEN is wrong or was revoked" if has_token else "put it into JOBRUNNER_TOKEN"
    )
    return f"{what}; where the API runs, `jobrunner token create NAME --scope submit` makes one"


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
        widest = max(map(len, _COMMANDS))
        for title, section in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{widest}}", entry.summary) for name, entry in section.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        # Click would import every command to see what it says of itself.
        return [
            CompletionItem(name, help=entry.summary)
            for name, entry in _COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)  # as shells have it; click's own 1 would say that something failed
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
