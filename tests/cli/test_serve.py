"""`jobrunner serve` and `jobrunner demo` as a whole: how they start, stop, and fail."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from jobrunner import kernel
from tests.cli.running import Followed, Served, command, descendants, environ, serving
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)


def _wait_until_gone(pids: list[int]) -> None:
    eventually(lambda: not [pid for pid in pids if kernel.started_ticks(pid) is not None], 30.0)


# -- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_both_and_leaves_nothing_behind(tmp_path: Path, signum: signal.Signals) -> None:
    with serving(tmp_path) as served:
        served.wait_until_ready()
        family = descendants(served.process.pid)
        assert len(family) > 4, "API, its worker, dispatcher, its processes"
        served.process.send_signal(signum)
        assert served.process.wait(60) == 0, served.logged()
        _wait_until_gone(family)


def test_a_stop_lets_a_job_finish(tmp_path: Path) -> None:
    with serving(tmp_path, "--tasks=probes") as served:
        followed = _follow_a_job(served, tmp_path)
        served.process.terminate()
        eventually(lambda: "draining" in served.logged())
        assert "running" in served.run("show", "1").stdout, "the API answers while the dispatcher drains"
        for step in (1, 2, 3):
            (tmp_path / str(step)).touch()
        assert served.process.wait(60) == 0
        followed.process.kill()
        followed.process.wait()
    assert _state_of_the_job(tmp_path) == "succeeded"


def test_a_second_stop_gives_the_job_back_at_once_and_the_next_serve_runs_it(tmp_path: Path) -> None:
    with serving(tmp_path, "--tasks=probes", "--drain-seconds=3600", "--grace-seconds=0.5") as served:
        followed = _follow_a_job(served, tmp_path)
        served.process.send_signal(signal.SIGINT)
        eventually(lambda: "draining" in served.logged())
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
        followed.process.kill()
        followed.process.wait()
    for step in (1, 2, 3):
        (tmp_path / str(step)).touch()
    assert _state_of_the_job(tmp_path) == "succeeded"


def _follow_a_job(served: Served, folder: Path) -> Followed:
    served.wait_until_ready()
    followed = served.start("submit", "probes.steps", f"folder={folder}", "--follow")
    followed.wait_until_it_says("waiting for 1")
    return followed


def _state_of_the_job(folder: Path) -> str:
    with serving(folder, "--tasks=probes") as served:
        done = served.wait_until_ready().run("show", "1", "--follow")
        return done.stdout.splitlines()[-2].split()[2]


def test_when_serve_is_killed_its_parts_end_too(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-seconds=1") as served:
        served.wait_until_ready()
        family = descendants(served.process.pid)
        served.process.kill()
        served.process.wait()
        _wait_until_gone(family)


# -- starting ------------------------------------------------------------------------------------


def test_it_says_where_it_listens_what_it_serves_and_what_to_try(tmp_path: Path) -> None:
    with serving(tmp_path, "--tasks=probes") as served:
        served.wait_until_ready()
        lines = served.said().splitlines()
    assert re.fullmatch(r"jobrunner serves at http://127\.0\.0\.1:\d+", lines[0])
    assert lines[1:4] == [f"  store    {tmp_path}/data/jobrunner.db", "  workers  2", "  tasks    probes"]
    assert lines[4].startswith("try:  curl -s http://127.0.0.1:")
    assert '{"task": "probes.wrong"}' in lines[4], "the one that needs no parameter"


def test_a_module_that_cannot_be_imported_keeps_no_other_from_being_served(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n", encoding="ascii")
    with serving(tmp_path, "--tasks=probes,broken") as served:
        served.wait_until_ready()
        assert (
            "NOT SERVED: broken: ModuleNotFoundError: No module named 'nothing_of_this_name'" in served.said()
        )
        assert served.run("submit", "probes.wrong", "divisor=2", "--follow").returncode == 0


def test_a_hangup_loads_the_task_modules_of_the_working_directory_again(tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text("from jobrunner import task\n@task\ndef one(): return 1\n", encoding="ascii")
    with serving(tmp_path, "--tasks=mine") as served:
        served.wait_until_ready()
        assert served.run("submit", "mine.one", "--follow").stdout.endswith("result: 1\n")
        module.write_text("from jobrunner import task\n@task\ndef two(): return 22\n", encoding="ascii")
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: "mine.two" in served.run("tasks").stdout, 30.0)
        assert served.run("submit", "mine.two", "--follow").stdout.endswith("result: 22\n")
        assert served.process.poll() is None


def test_a_dispatcher_that_was_killed_is_not_taken_for_the_one_that_is_starting(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.wait_until_ready()
        parts = served.parts()
        served.process.kill()
        for pid in parts.values():
            os.kill(pid, signal.SIGKILL)
        _wait_until_gone(list(parts.values()))
    _write_twins(tmp_path)
    with serving(tmp_path, "--tasks=twins") as served:
        assert served.process.wait(60) == 1
        assert served.said() == ""
        assert "dispatcher cannot start (exit status 1): giving up" in served.logged()


@pytest.mark.parametrize(
    ("flags", "status", "why"),
    [
        (["--workers=none"], 2, "Error: workers = 'none' (from flag --workers): must be a whole number"),
        (["--config=nowhere.toml"], 2, "Error: config = 'nowhere.toml'"),
        (["--database-url=mysql://x/y"], 1, "this version keeps jobs in an SQLite file"),
        (["--host=0.0.0.0", "--drain-seconds=0"], 2, "api cannot start (exit status 2): giving up"),
        (["--tasks=twins"], 1, "two tasks are named 'twin'"),
        (["--data=/dev/null/data"], 1, "Error: the store's directory cannot be written"),
    ],
)
def test_what_cannot_be_served_is_said_and_ends_it(
    tmp_path: Path, flags: list[str], status: int, why: str
) -> None:
    twins = (
        "from jobrunner import task\n@task(name='twin')\ndef a(): pass\n@task(name='twin')\ndef b(): pass\n"
    )
    (tmp_path / "twins.py").write_text(twins, encoding="ascii")
    done = _serve(tmp_path, "--port=0", *flags)
    assert (done.returncode, done.stdout) == (status, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _serve(tmp_path, f"--port={taken.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: port \d+ of 127\.0\.0\.1 is in use: .*--port.*\n", done.stderr)


def test_a_store_of_another_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    connection = sqlite3.connect(tmp_path / "data" / "jobrunner.db")
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.commit()
    connection.close()
    done = _serve(tmp_path, "--port=0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "made by a newer jobrunner" in done.stderr


def _write_twins(folder: Path) -> None:
    twins = (
        "from jobrunner import task\n@task(name='twin')\ndef a(): pass\n@task(name='twin')\ndef b(): pass\n"
    )
    (folder / "twins.py").write_text(twins, encoding="ascii")


def _serve(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    arguments = command("serve", f"--data={folder}/data", *flags)
    return subprocess.run(
        arguments, cwd=folder, env=environ(), capture_output=True, text=True, timeout=60, check=False
    )


# -- the demo ------------------------------------------------------------------------------------


def test_the_demo_runs_every_example_and_finds_every_result_right(tmp_path: Path) -> None:
    done = subprocess.run(
        command("demo", "--data", "here"),
        cwd=tmp_path,
        env=environ(JOBRUNNER_PORT="1", JOBRUNNER_NOTHING="x"),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    right = [line.split()[0] for line in done.stdout.splitlines() if line.split()[1:2] == ["right"]]
    assert right[:4] == ["examples.word_count", "examples.primes", "examples.mandelbrot", "examples.pi"]
    assert ("examples.train_digits" in right) or ("pip install 'jobrunner[examples]'" in done.stdout)
    assert "WRONG" not in done.stdout
    assert len(re.findall(r"^\d+ +\d+ +\d+ +[\d.]+ s ", done.stdout, re.MULTILINE)) == len(
        os.sched_getaffinity(0)
    )
    assert f"jobrunner serve --data {tmp_path}/here" in done.stdout
    assert "rm -r" not in done.stdout
    assert "stopped" in (tmp_path / "here" / "serve.log").read_text(encoding="utf-8")


def test_ctrl_c_ends_the_demo_and_all_that_it_started(tmp_path: Path) -> None:
    demo = Followed(["demo", "--data", str(tmp_path / "data")], environ(), tmp_path)
    demo.wait_until_it_says("running")
    family = descendants(demo.process.pid)
    demo.process.send_signal(signal.SIGINT)
    assert demo.status() == 130
    assert demo.said().endswith("stopped before the end\n")
    _wait_until_gone(family)
