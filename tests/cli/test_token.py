"""Tokens by the command line, and what runs beside them."""

import http.client
import os
import re
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from jobrunner.cli.main import main
from tests.cli.running import command, environ, serving
from tests.waiting import eventually


def token(data: Path, *arguments: str) -> Result:
    variables = {name: None for name in os.environ if name.startswith("JOBRUNNER_")}
    return CliRunner(env=variables).invoke(main, ["token", *arguments, f"--data={data}"])


def status(url: str, secret: str = "") -> int:
    """Return the status of a GET."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request("GET", parts.path, headers={"Authorization": f"Bearer {secret}"} if secret else {})
    answered = connection.getresponse().status
    connection.close()
    return answered


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that is not there yet."""
    return tmp_path / "data"


def test_a_token_is_printed_alone_and_once(data: Path) -> None:
    made = token(data, "create", "me", "--scope", "admin")
    assert made.exit_code == 0, made.stderr
    assert re.fullmatch(r"jr_[\w-]{43}\n", made.stdout)
    assert "shown this once" in made.stderr
    assert "from now on every request" in made.stderr
    second = token(data, "create", "ci", "--scope", "submit")
    assert "from now on" not in second.stderr
    listed = token(data, "list").stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [["me", "admin"], ["ci", "submit"]]
    assert "jr_" not in listed


def test_a_name_is_free_again_once_its_token_is_revoked(data: Path) -> None:
    first = token(data, "create", "me", "--scope", "read").stdout
    again = token(data, "create", "me", "--scope", "admin")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "there is a token named 'me': revoke it first" in again.stderr
    revoked = token(data, "revoke", "me")
    assert revoked.stdout == "token me is revoked\n"
    assert "nobody may use the API" in revoked.stderr
    assert token(data, "list").stdout == ""
    assert token(data, "create", "me", "--scope", "admin").stdout != first
    assert "me  admin" in token(data, "list").stdout


@pytest.mark.parametrize(
    ("arguments", "exit_status", "says"),
    [
        (("create", "me"), 2, "--scope"),
        (("create", "me", "--scope", "root"), 2, "'read', 'submit', 'admin'"),
        (("create", "a b", "--scope", "read"), 1, "a token's name is 1 to 100"),
        (("create", "x\ny", "--scope", "read"), 1, "a token's name is 1 to 100"),
        (("create", "", "--scope", "read"), 1, "a token's name is 1 to 100"),
        (("revoke", "me"), 1, "there is no store"),
        (("list",), 1, "there is no store"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    data: Path, arguments: tuple[str, ...], exit_status: int, says: str
) -> None:
    ran = token(data, *arguments)
    assert (ran.exit_code, ran.stdout) == (exit_status, "")
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not data.exists()


def test_a_token_that_is_not_there_cannot_be_revoked(data: Path) -> None:
    token(data, "create", "me", "--scope", "read")
    ran = token(data, "revoke", "you")
    assert (ran.exit_code, ran.stderr) == (1, "Error: there is no token named 'you'\n")


def test_without_tokens_the_api_says_that_it_is_open(data: Path) -> None:
    log = data.parent / "log"
    with log.open("wb") as output:
        api = subprocess.Popen(
            command("api", "--port=0", f"--data={data}"), cwd=data.parent, env=environ(), stderr=output
        )
    try:
        eventually(lambda: "whoever can connect to 127.0.0.1:0 may do everything" in log.read_text(), 60)
    finally:
        api.terminate()
        api.wait(60)


def test_serving_to_others_with_a_token_everybody_is_asked_for_one(tmp_path: Path) -> None:
    secret = token(tmp_path / "data", "create", "me", "--scope", "read").stdout.strip()
    with serving(tmp_path, "--host=0.0.0.0") as served:
        served.wait_until_ready()
        assert '-H "Authorization: Bearer $JOBRUNNER_TOKEN"' in served.first_line
        assert status(f"{served.url}/jobs") == 401
        assert status(f"{served.url}/jobs", secret) == 200
        assert "no tokens" not in served.logged()
        assert secret not in served.logged() + served.said()


@pytest.mark.parametrize("who_listens", ["the API", "systemd"])
def test_serving_to_others_without_a_token_ends_with_the_remedy(data: Path, who_listens: str) -> None:
    api = command("api", "--host=0.0.0.0", "--port=0", f"--data={data}")
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104
        if who_listens == "systemd":
            fd = listener.fileno()
            passing = f'exec env LISTEN_FDS=1 LISTEN_PID=$$ "$@" 3<&{fd}'
            api = ["bash", "-c", passing, "bash", *api, "--host=127.0.0.1"]
        ran = subprocess.run(
            api,
            cwd=data.parent,
            env=environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            pass_fds=[listener.fileno()],
        )
    assert ran.returncode == 2
    assert "jobrunner token create NAME --scope admin" in ran.stderr
    assert not data.exists()
