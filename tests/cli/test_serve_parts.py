"""What `serve` hands to its parts, where they listen, and what it proposes to try first."""

import json
import shlex
import socket
from pathlib import Path

import pytest

from jobrunner.cli import ports
from jobrunner.cli.firstline import first_curl_line
from jobrunner.cli.serve import environment
from jobrunner.settings import documented, load

OTHERS = {
    "data": "/somewhere else/data",
    "database_url": "sqlite:////x.db",
    "tasks": "a.b,c",
    "workers": "3",
    "host": "::1",
    "port": "1234",
    "api_workers": "2",
    "api_threads": "5",
    "max_waiting": "6",
    "max_wait": "4.5",
    "grace_seconds": "0.25",
    "drain_seconds": "1.5",
    "lease_seconds": "3.5",
    "max_jobs_per_process": "7",
    "max_queued": "8",
    "max_batch": "9",
    "max_items": "10",
    "max_body_bytes": "2048",
    "max_params_bytes": "100",
    "max_result_bytes": "101",
    "max_partial_bytes": "102",
    "max_partials_bytes": "103",
    "max_log_bytes": "2049",
    "keep_succeeded": "90s",
    "keep_failed": "forever",
    "log_level": "error",
}


def test_a_part_has_exactly_the_settings_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OTHERS.keys() == {name for name, *_ in documented()}
    chosen = load(OTHERS, {})
    monkeypatch.chdir(tmp_path)
    Path("jobrunner.toml").write_text("port = 1\nprot = 1", encoding="ascii")
    environ = environment(chosen, {"JOBRUNNER_PORT": "2", "JOBRUNNER_CONFIG": "other.toml", "PATH": "/bin"})
    assert environ["PATH"] == "/bin"
    assert load({}, environ, Path(environ["JOBRUNNER_CONFIG"])) == chosen


def test_settings_that_are_not_set_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = environment(load({}, {}), {})
    assert load({}, environ, Path(environ["JOBRUNNER_CONFIG"])) == load({}, {})


# -- ports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104 - asked for, not served
def test_port_0_becomes_a_port_that_is_free(host: str) -> None:
    port = ports.free_port(host, 0)
    assert port > 0
    assert ports.free_port(host, port) == port


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ports.CannotListenError) as caught:
            ports.free_port("127.0.0.1", port)
    assert (
        str(caught.value)
        == f"port {port} of 127.0.0.1 is in use: choose another with --port, or 0 for a free one"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_this_machine_does_not_have_is_named(host: str) -> None:
    with pytest.raises(ports.CannotListenError, match=f"^{host} port 8000: "):
        ports.free_port(host, 8000)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_a_server_is_reached_by_the_address_that_it_listens_on(host: str, url: str) -> None:
    assert ports.url(host, 80) == url


# -- the first line --------------------------------------------------------------------------------


def _submitted(line: str) -> object:
    words = shlex.split(line)
    assert words[:3] == ["curl", "-s", "http://x/jobs"]
    assert words[3:5] == ["-H", "Content-Type: application/json"]
    return json.loads(words[6])


def test_the_first_line_counts_primes_if_it_can() -> None:
    line = first_curl_line("http://x", ["a", "examples.primes"])
    assert _submitted(line) == {"task": "examples.primes", "params": {"n": 1_000_000}}


def test_else_it_submits_a_task_that_needs_nothing() -> None:
    assert _submitted(first_curl_line("http://x", ["it's mine", "b"])) == {"task": "it's mine"}


def test_else_it_lists_the_tasks() -> None:
    assert first_curl_line("http://x", []) == "curl -s http://x/tasks"
