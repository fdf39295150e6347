"""Completion, as somebody has it who types in a real bash."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobrunner.cli.main import main
from tests.cli.running import environ
from tests.cli.scripted import Reply, Server, job
from tests.cli.terminal import Terminal
from tests.waiting import eventually

PROGRAMS = Path(sys.executable).parent

RC = """
source <(jobrunner completion bash)
PS1='> '
bind 'set bell-style none'
bind 'set show-all-if-ambiguous on'
bind 'set completion-query-items 0'
bind 'set page-completions off'
bind -x '"\\C-o": printf "<%s>" "$READLINE_LINE"'
"""

TASK = {
    "name": "my.draw",
    "doc": "Draw a line.\n\nMore.",
    "params": {
        "properties": {
            "palette": {"enum": ["fire", "very cold"]},
            "points": {"type": "array"},
            "fill": {"type": "boolean"},
            "mood": {"$ref": "#/$defs/Mood"},
        },
        "$defs": {"Mood": {"enum": ["good", "bad", 5, "5"]}},
    },
    "options": {},
}
TASKS = {"items": [TASK, TASK | {"name": "other.one", "doc": ""}], "module_errors": {}}
QUEUES: dict[str, Any] = {
    "items": [
        {"name": name, "paused": False, "paused_since": None, "jobs": {}} for name in ("default", "night")
    ]
}
JOBS = {"items": [job(id=42), job(id=517, state="running")], "next": None}


class Shell:
    """A bash that has read the script; `line` types, presses TAB, and tells what stands there then."""

    def __init__(self, terminal: Terminal, server: Server) -> None:
        self._terminal = terminal
        self._server = server

    def line(self, typed: str, *replies: Any) -> str:
        self._server.replies = [Reply(one) for one in replies]
        before = len(self._terminal.shown)
        self._terminal.enter(f"\x15{typed}\t\x0f")
        eventually(lambda: ">" in self._terminal.shown[before:].partition("<")[2], 60)
        self.shown = self._terminal.shown[before:]
        return self.shown.partition("<")[2].partition(">")[0]


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    rc = tmp_path_factory.mktemp("home") / "bashrc"
    rc.write_text(RC, encoding="ascii")
    env = environ(TERM="dumb", INPUTRC="/dev/null", PATH=f"{PROGRAMS}:/usr/bin:/bin", HOME=str(rc.parent))
    with Terminal(["bash", "--noprofile", "--rcfile", str(rc), "-i"], env, columns=200) as opened:
        opened.wait_until_it_shows("> ")
        yield opened


@pytest.fixture
def shell(terminal: Terminal, server: Server) -> Shell:
    found = Shell(terminal, server)
    before = len(terminal.shown)
    terminal.enter(f"\x15export JOBRUNNER_URL={server.url}; echo no''w\n")
    terminal.wait_until_it_shows("now", before)
    return found


def _asked(server: Server) -> list[str]:
    return [one.path for one in server.requests]


def test_commands_and_options_are_completed_without_asking_anybody(shell: Shell, server: Server) -> None:
    for typed, full in {
        "jobrunner sub": "jobrunner submit ",
        "X=1 jobrunner com": "X=1 jobrunner completion ",
        "true; jobrunner submit --mem": "true; jobrunner submit --memory-limit ",
        "jobrunner list --state qu": "jobrunner list --state queued ",
        "jobrunner list --state=qu": "jobrunner list --state=queued ",
        "jobrunner db che": "jobrunner db check ",
        "jobrunner queues re": "jobrunner queues resume ",
    }.items():
        assert shell.line(typed) == full
    assert shell.line("jobrunner c") == "jobrunner c"
    assert all(name in shell.shown.split() for name in ("completion", "cancel"))
    assert server.requests == []


def test_what_the_api_knows_is_asked_of_it(shell: Shell, server: Server) -> None:
    assert shell.line("jobrunner submit my", TASKS) == "jobrunner submit my.draw "
    assert shell.line("jobrunner tasks o", TASKS) == "jobrunner tasks other.one "
    assert shell.line("jobrunner list --task=o", TASKS) == "jobrunner list --task=other.one "
    assert (
        shell.line("jobrunner submit my.draw --queue n", QUEUES) == "jobrunner submit my.draw --queue night "
    )
    assert shell.line("jobrunner queues pause night d", QUEUES) == "jobrunner queues pause night default "
    assert shell.line("jobrunner log 5", JOBS) == "jobrunner log 517 "
    assert shell.line("jobrunner wait 517 4", JOBS) == "jobrunner wait 517 42 "
    assert _asked(server)[-1] == "/jobs?state=queued&state=running&limit=20"
    elsewhere = f"jobrunner show --url {server.url}/base 4"
    assert shell.line(elsewhere, JOBS) == f"{elsewhere}2 "
    assert _asked(server)[-1] == "/base/jobs?limit=20"


def test_parameters_of_a_task_are_completed_and_their_values_where_they_are_few(
    shell: Shell, server: Server, tmp_path: Path
) -> None:
    start = "jobrunner submit my.draw"
    assert shell.line(f"{start} pa", TASK) == f"{start} palette="
    assert shell.line(f"{start} palette=fi", TASK) == f"{start} palette=fire "
    assert shell.line(f"{start} palette=v", TASK) == f"{start} palette=very\\ cold "
    assert shell.line(f"{start} fill=", TASK) == f"{start} fill="
    assert {"true", "false"} <= set(shell.shown.split())
    assert shell.line(f"{start} mood=g", TASK) == f"{start} mood=good "
    assert shell.line(f"{start} palette=fire fill=true mood=bad p", TASK).endswith(" points=")
    assert set(_asked(server)) == {"/tasks/my.draw"}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows 1.json").touch()
    assert shell.line(f"{start} points=@{tmp_path}/d", TASK) == f"{start} points=@{tmp_path}/data/"
    typed = f"{start} points=@{tmp_path}/data/r"
    assert shell.line(typed, TASK) == f"{typed}ows\\ 1.json "
    assert shell.line(f"jobrunner db check {tmp_path}/d") == f"jobrunner db check {tmp_path}/data/"


def test_what_a_map_job_runs_through_is_completed(shell: Shell, server: Server, tmp_path: Path) -> None:
    start = "jobrunner submit my.draw"
    assert shell.line(f"{start} --map fi", TASK) == f"{start} --map fill="
    assert shell.line(f"{start} --map=fi", TASK) == f"{start} --map=fill="
    assert shell.line(f"{start} --max-f") == f"{start} --max-failed "
    (tmp_path / "items.json").touch()
    assert shell.line(f"{start} --map @{tmp_path}/i") == f"{start} --map @{tmp_path}/items.json "
    assert shell.line(f"{start} --map fill=@{tmp_path}/i") == f"{start} --map fill=@{tmp_path}/items.json "
    assert shell.line(f"{start} --map fill=0..5 --reduce o", TASKS).endswith(" --reduce other.one ")
    assert shell.line("jobrunner items 5", JOBS) == "jobrunner items 517 "
    assert shell.line("jobrunner items 517 --state f") == "jobrunner items 517 --state failed "


def test_an_api_that_refuses_is_away_or_speaks_another_language_costs_nothing_but_the_proposal(
    shell: Shell, server: Server
) -> None:
    assert shell.line("jobrunner submit my", b"hello") == "jobrunner submit my"
    refused = "jobrunner submit --url http://127.0.0.1:1 my"
    for typed in (refused, "jobrunner submit --url nonsense://x my"):
        assert shell.line(typed) == typed
        assert "rror" not in shell.shown
        assert "Traceback" not in shell.shown
    assert len(server.requests) == 1


def test_a_shell_that_hides_no_complaint_gets_none() -> None:
    variables = {
        "_JOBRUNNER_COMPLETE": "zsh_complete",
        "COMP_WORDS": "jobrunner show --url http://127.0.0.1:1 4",
        "COMP_CWORD": "4",
    }
    done = CliRunner(env=variables).invoke(main, prog_name="jobrunner")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell_name: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell_name], catch_exceptions=False)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"_JOBRUNNER_COMPLETE={shell_name}_complete" in done.stdout


@pytest.mark.parametrize(
    ("shell_name", "word", "told"),
    [
        ("zsh", {"COMP_CWORD": "2"}, "plain\n--state=queued\n_"),
        ("fish", {"COMP_CWORD": "--state=qu"}, "plain,--state=queued"),
    ],
)
def test_zsh_and_fish_are_told_the_word_as_a_whole(shell_name: str, word: dict[str, str], told: str) -> None:
    variables = {
        "_JOBRUNNER_COMPLETE": f"{shell_name}_complete",
        "COMP_WORDS": "jobrunner list --state=qu",
    }
    done = CliRunner(env=variables | word).invoke(main, prog_name="jobrunner")
    assert (done.exit_code, done.stdout.strip()) == (0, told)


def test_of_another_shell_it_says_which_there_are() -> None:
    done = CliRunner().invoke(main, ["completion", "tcsh"])
    assert done.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
