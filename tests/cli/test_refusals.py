"""What every command that talks to the API says and how it ends when it comes to nothing."""

import signal
import socket
import subprocess
from collections.abc import Callable

import pytest
from click.testing import Result

from tests.cli.running import command, environ
from tests.cli.scripted import Reply, Server, job

Run = Callable[..., Result]

TALKING = [
    ["submit", "t"],
    ["show", "1"],
    ["show", "1", "--follow"],
    ["list"],
    ["wait", "1"],
    ["log", "1"],
    ["log", "1", "--follow"],
    ["partials", "1"],
    ["partials", "1", "--follow"],
    ["attempts", "1"],
    ["cancel", "1"],
    ["retry", "1"],
    ["delete", "1"],
    ["tasks"],
    ["queues"],
    ["queues", "pause", "q"],
    ["top"],
]


@pytest.mark.parametrize("arguments", TALKING)
def test_a_problem_ends_a_command_with_one_line_on_stderr(run: Run, arguments: list[str]) -> None:
    done = run(*arguments, replies=[Reply({"title": "No", "detail": "there is no job 1"}, status=404)])
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "Error: there is no job 1\n")


@pytest.mark.parametrize("arguments", TALKING)
def test_an_api_that_is_not_there_ends_a_command_with_status_1_and_the_remedy(
    run: Run, arguments: list[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = run(*arguments, "--url", url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: nothing answers at {url}: start it with `jobrunner serve`")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", TALKING)
@pytest.mark.parametrize(
    ("token", "what"), [(None, "put it into JOBRUNNER_TOKEN"), ("abc", "is wrong or was revoked")]
)
def test_who_is_locked_out_is_told_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], token: str | None, what: str
) -> None:
    monkeypatch.delenv("JOBRUNNER_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("JOBRUNNER_TOKEN", token)
    done = run(*arguments, replies=[Reply({"title": "No", "detail": "send a token"}, status=401)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: send a token: ")
    assert what in done.stderr
    assert "`jobrunner token create NAME --scope submit`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", TALKING)
def test_an_address_that_is_none_ends_a_command_with_status_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments, "--url", "ftp://x")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: url = 'ftp://x' (from --url or JOBRUNNER_URL): must be ")


def test_what_the_terminal_cannot_show_is_escaped(server: Server) -> None:
    server.replies = [Reply(job(params={"name": "Zoë →"}))]
    done = subprocess.run(
        command("show", "42", "--url", server.url),
        env=environ(PYTHONIOENCODING="latin-1"),
        capture_output=True,
        encoding="latin-1",
        check=True,
    )
    assert '{"name": "Zoë \\u2192"}' in done.stdout


def test_ctrl_c_while_the_api_thinks_ends_a_command_with_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asking = subprocess.Popen(
            command("list", "--url", f"127.0.0.1:{silent.getsockname()[1]}"),
            env=environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        connection, _ = silent.accept()
        with connection:
            asking.send_signal(signal.SIGINT)
            assert asking.communicate(timeout=60) == (b"", b"")
    assert asking.returncode == 130
