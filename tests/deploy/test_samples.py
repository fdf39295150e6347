"""The page, the sample settings and gunicorn's configuration name what there is."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from jobrunner.api import server
from jobrunner.cli.ports import free_port
from jobrunner.settings import documented, load
from tests.deploy.page import DEPLOY, TEXT
from tests.waiting import eventually

SAMPLE = DEPLOY / "jobrunner.toml"
GUNICORN = DEPLOY / "gunicorn.conf.py"
_SETTING = re.compile(r"^(?:# )?(\w+) = .+$", re.MULTILINE)
_COMMENTED = re.compile(r"^# (\w+ = .+)$", re.MULTILINE)

DEFAULTS = {name: default for name, default, *_ in documented()}
COMMENTED = _COMMENTED.findall(SAMPLE.read_text(encoding="utf-8"))


# -- the page ----------------------------------------------------------------------------------


def test_the_page_names_files_that_are_there_and_all_of_them() -> None:
    named = {path for name in re.findall(r"deploy/([\w.*-]*\w)", TEXT) for path in DEPLOY.glob(name)}
    assert named == {path for path in DEPLOY.iterdir() if path.is_file()} - {DEPLOY / "README.md"}
    assert all(list(DEPLOY.glob(name)) for name in re.findall(r"deploy/([\w.*-]*\w)", TEXT))


# -- the sample settings -----------------------------------------------------------------------


def test_the_sample_can_be_used_as_it_is() -> None:
    chosen = load({}, {}, SAMPLE)
    assert chosen.data == Path("/var/lib/jobrunner")


def test_the_sample_shows_every_setting_once() -> None:
    assert sorted(_SETTING.findall(SAMPLE.read_text(encoding="utf-8"))) == sorted(DEFAULTS)


@pytest.mark.parametrize("line", COMMENTED)
def test_a_line_that_is_commented_out_is_a_setting_with_its_default(line: str, tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    file.write_text(line, encoding="utf-8")
    name = line.partition(" ")[0]
    chosen = load({}, {}, file)
    if name == "database_url":
        assert chosen.url == load({}, {}, SAMPLE).url
    elif name != "workers":  # one a core: each machine has its own
        assert getattr(chosen, name) == DEFAULTS[name]


# -- gunicorn ----------------------------------------------------------------------------------


def test_the_configuration_for_gunicorn_says_what_the_program_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBRUNNER_CONFIG", str(SAMPLE))
    ours = server._Server(load({}, {}, SAMPLE), "127.0.0.1:8000")._options()
    theirs = runpy.run_path(str(GUNICORN))
    same_by_default = {"accesslog": None, "errorlog": "-"}
    assert {name: theirs.get(name, same_by_default.get(name)) for name in ours} == ours


def test_gunicorn_serves_the_api_with_its_configuration(tmp_path: Path) -> None:
    port = free_port("127.0.0.1", 0)
    environ = {**os.environ, "JOBRUNNER_DATA": str(tmp_path), "JOBRUNNER_PORT": str(port)}
    command = [sys.executable, "-m", "gunicorn", "-c", str(GUNICORN)]
    said = tmp_path / "said"
    with (
        said.open("wb") as stderr,
        subprocess.Popen(command, env=environ, cwd=tmp_path, stderr=stderr) as gunicorn,
    ):

        def answer() -> bytes:
            assert gunicorn.poll() is None, said.read_text(encoding="utf-8")
            return _get(f"http://127.0.0.1:{port}/livez")

        try:
            assert json.loads(eventually(answer, seconds=30)) == {"alive": True}
        finally:
            gunicorn.send_signal(signal.SIGTERM)
    assert gunicorn.returncode == 0


def test_a_sigterm_that_comes_while_a_worker_is_forked_ends_it(tmp_path: Path) -> None:
    # The hook runs in the new process, before it has handlers of its own.
    hook = (
        "import os, signal, pathlib\n"
        "def post_fork(arbiter, worker):\n"
        "    pathlib.Path(f'worker-{worker.age}').touch()\n"
        "    if worker.age == 1:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(GUNICORN.read_text(encoding="utf-8") + hook, encoding="utf-8")
    environ = {**os.environ, "JOBRUNNER_DATA": str(tmp_path), "JOBRUNNER_PORT": "0"}
    command = [sys.executable, "-m", "gunicorn", "-c", str(config)]
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL) as gunicorn:
        try:
            eventually((tmp_path / "worker-2").exists, seconds=30)
        finally:
            gunicorn.send_signal(signal.SIGTERM)
    assert gunicorn.returncode == 0


def test_gunicorn_does_not_go_on_at_an_address_that_others_can_reach(tmp_path: Path) -> None:
    environ = {**os.environ, "JOBRUNNER_DATA": str(tmp_path)}
    command = [sys.executable, "-m", "gunicorn", "-c", str(GUNICORN), "-b", "0.0.0.0:0"]
    ran = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode != 0
    assert "jobrunner token create" in ran.stderr
    assert "Booting worker" not in ran.stderr


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http
            body: bytes = answer.read()
            return body
    except URLError:
        return b""
