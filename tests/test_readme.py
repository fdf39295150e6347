"""The README cannot drift: what it shows is compared with the program."""

import ast
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import lifecycle
from jobrunner.durations import in_words
from jobrunner.settings import documented, load
from tests.waiting import eventually

README = Path(__file__).parent.parent / "README.md"
PAGES = (README, README.parent / "deploy" / "README.md")


def blocks(language: str, under: str = "", page: Path = README) -> list[str]:
    """Return the fenced blocks, of the whole page or of the section of that heading."""
    text = page.read_text(encoding="utf-8")
    if under:
        text = text.partition(f"\n## {under}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def settings_table() -> str:
    rows = ["| setting | default | meaning | allowed |", "|---|---|---|---|"]
    for name, default, meaning, allowed in documented():
        shown = ", ".join(default) if isinstance(default, tuple) else default
        shown = in_words(default) if "7d, or forever" in allowed else shown
        shown = {"workers": "the cores", "database_url": "-"}.get(name, shown)
        rows.append(f"| `{name}` | {shown} | {meaning} | {allowed} |")
    return "\n".join(rows)


def test_the_state_diagram_is_the_table_of_moves() -> None:
    assert blocks("mermaid") == [lifecycle.diagram() + "\n"]


def test_the_settings_are_all_there() -> None:
    assert settings_table() in README.read_text(encoding="utf-8")


def test_the_two_commands_stand_alone_on_their_lines() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    new = "python3 -m venv .venv && .venv/bin/pip install"
    assert f"{new} . && .venv/bin/jobrunner demo" in commands
    assert f"{new} -e '.[dev]' && .venv/bin/python -m pytest" in commands


class Session:
    """The README's session: its module, its server, its commands."""

    def __init__(self, directory: Path) -> None:
        (directory / "mytasks.py").write_text(next(b for b in blocks("python") if "def roots" in b))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (serve,) = (
            line for b in blocks("sh") for line in b.splitlines() if line.startswith("jobrunner serve")
        )
        command = [sys.executable, "-m", *shlex.split(serve), "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.directory = directory

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz") as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def run(self, command: str) -> str:
        """Run a line of the README, on this server's port."""
        words = shlex.split(command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}"), comments=True)
        if words[0] == "jobrunner":
            words = [sys.executable, "-m", *words, "--url", f"http://127.0.0.1:{self.port}"]
        done = subprocess.run(
            words, cwd=self.directory, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 or "cancel" in words, (words, done)
        return done.stdout

    def shell(self, line: str) -> None:
        """Run a line as a shell does, on this server's port."""
        words = ["sh", "-c", line.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")]
        env = os.environ | {"JOBRUNNER_TOKEN": "none-is-needed"}
        done = subprocess.run(
            words, cwd=self.directory, env=env, capture_output=True, text=True, check=False, timeout=90
        )
        assert done.returncode == 0, (line, done)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path)
    try:
        eventually(made.is_ready, 60)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(60)


def test_the_session_goes_as_it_is_told(session: Session) -> None:
    told = "".join(blocks("console", under="A session"))
    submit, show, partials, *rest = [line[2:] for line in told.splitlines() if line.startswith("$ ")]
    job = json.loads(session.run(submit))
    assert (job["id"], job["task"], job["params"]) == (1, "mytasks.roots", {"n": 3})

    def ended() -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(session.run(show))
        return shown if shown["finished_at"] else {}

    assert eventually(ended)["result"] == {"computed": 3}
    page = json.loads(session.run(partials))
    assert page["items"][0]["value"] == {"number": 1, "root": 1.0}
    assert [item["seq"] for item in page["items"]] == [3, 4, 5]
    assert (page["next_after"], page["complete"]) == (5, True)
    by_command_line, by_http, with_key = rest[:-4], rest[-4:-2], rest[-2:]
    followed = session.run(by_command_line[0])
    assert "1.732051" in followed
    for command in by_command_line[1:]:
        session.run(command)
    assert json.loads(session.run(by_http[0])) == {"ids": [3, 4]}
    assert [job["id"] for job in json.loads(session.run(by_http[1]))["items"]] in ([4], [])
    assert [json.loads(session.run(command))["id"] for command in with_key] == [5, 5]


#: lines that are not run as they stand, with the reason
NOT_RUN: dict[str, str] = {}


def curl_commands() -> list[str]:
    """Return every command of a fenced block that calls curl, and those that submit jobs, whose ids are told.

    They are in the order in which the pages are read.
    """
    whole = "".join(block for page in PAGES for block in blocks(r"\w*", page=page)).replace("\\\n", " ")
    wanted = re.compile(r"\bcurl [-'\"h]|\$ jobrunner submit ")
    return [line.removeprefix("$ ") for line in whole.splitlines() if wanted.search(line)]


def test_every_curl_command_of_the_pages_is_answered(session: Session) -> None:
    commands = curl_commands()
    assert len(commands) >= 10
    assert NOT_RUN.keys() <= set(commands)
    for command in commands:
        if command.startswith("jobrunner "):
            session.run(command)
        elif command not in NOT_RUN:
            session.shell(re.sub(r"\bcurl\b", "curl --fail-with-body --max-time 60", command))


def test_python_speaks_to_it_as_it_is_told(session: Session) -> None:
    by_client, by_executor = blocks("python", under="From Python")
    env = os.environ | {
        "JOBRUNNER_URL": f"http://127.0.0.1:{session.port}",
        "PYTHONPATH": str(session.directory),
    }

    def said(program: str) -> str:
        words = [sys.executable, "-c", program.replace(":8000", f":{session.port}")]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    *partials, result, many = said(by_client).splitlines()
    assert [one["number"] for one in map(ast.literal_eval, partials)] == [1, 2, 3]
    assert result == "{'computed': 3}"
    assert many == "[{'computed': 1}, {'computed': 2}, {'computed': 3}] [4, 3, 2]"
    first, many = said(by_executor).splitlines()
    assert first == "{'computed': 3}"
    assert ast.literal_eval(many) == [{"computed": n} for n in range(1, 100)]


def test_the_sample_of_a_settings_file_is_one(tmp_path: Path) -> None:
    (sample,) = blocks("toml")
    (tmp_path / "jobrunner.toml").write_text(sample)
    assert load({}, {}, tmp_path / "jobrunner.toml").max_result_bytes == 64 << 20
