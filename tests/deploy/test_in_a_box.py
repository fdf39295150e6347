"""The page's commands, and the units, under a systemd of their own.

Each test leaves the service running for the next, but for the last, which removes it.
"""

import contextlib
import re
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from tests.deploy.page import blocks
from tests.deploy.service import DISPATCHER, FILES, Service, in_a_minute


def test_once_the_start_command_comes_back_jobs_run(service: Service) -> None:
    assert service.get("/readyz")["ready"]
    assert "succeeded" in service.type(blocks("Start")[1])


def test_the_pages_look_shows_how_the_dispatcher_is(service: Service) -> None:
    in_a_minute(lambda: service.box.show(DISPATCHER, "StatusText"))
    seen = service.type(blocks("Look")[0])
    assert 'Status: "0 running, 0 queued' in seen
    assert "ready: " in seen


def test_the_api_can_wake_the_dispatcher(service: Service) -> None:
    for _ in range(9):
        service.result(service.submit("examples.primes", n=100))
    waits = [service.job(job["id"])["waited_seconds"] for job in service.get("/jobs?limit=9")["items"]]
    assert statistics.median(waits) < 0.25  # unwoken, it looks once a second


def test_the_loop_feeds_the_watchdog(service: Service) -> None:
    fed = service.box.show(DISPATCHER, "WatchdogTimestampMonotonic")
    in_a_minute(lambda: service.box.show(DISPATCHER, "WatchdogTimestampMonotonic") not in {fed, "0"})


def test_own_tasks_are_served_and_a_reload_takes_their_new_code(service: Service) -> None:
    first_time, after_a_change = blocks("Your own tasks")
    service.type(first_time)
    assert service.result(service.submit("mytasks.answer")) == "old code"
    service.type("sed -i 's/old code/new code/' mytasks.py")
    service.type(after_a_change)
    in_a_minute(lambda: service.result(service.submit("mytasks.answer")) == "new code")
    assert service.result(service.submit("examples.primes", n=100))["count"] == 25


def test_jobs_may_do_what_jobs_do_and_nothing_else(service: Service) -> None:
    assert service.result(service.submit("mytasks.look_around")) == {
        "compute": "262144.0",
        "call_back": "42",
        "start_a_program": "hello",
        "start_processes": "[1, 2]",
        "talk_over_the_network": "hello",
        "name_interfaces": "True",
        "limit_itself": "1",
        "write_here": f"{FILES}/mine.txt",
        "write_to_tmp": "7",
        "import_what_a_job_wrote": "False",
        "be_the_first_victim": "1000",
        "write_settings": "OSError",
        "write_code": "OSError",
        "see_homes": "PermissionError",
        "see_other_users": "False",
        "become_root": "PermissionError",
    }


def test_a_job_that_crashes_leaves_its_python_stack(service: Service) -> None:
    error = service.failure(service.submit("mytasks.crash"))
    assert (error["kind"], error["signal"]) == ("crashed", "SIGSEGV")
    assert "mytasks.py" in error["log_tail"]


def test_the_pages_drop_in_gives_jobs_more(service: Service) -> None:
    [text] = blocks("Your own tasks", "ini")
    folder = f"/etc/systemd/system/{DISPATCHER}.d"
    service.box.run(
        f"install -d -o jobrunner /srv/data; mkdir {folder}; cat >{folder}/override.conf <<'END'\n{text}END\n"
        f"systemctl daemon-reload; systemctl restart {DISPATCHER}"
    )
    service.result(service.submit("mytasks.write", path="/srv/data/mine.txt"))
    assert service.box.run("cat /srv/data/mine.txt") == "written"


def test_restarting_the_api_loses_no_request_and_stores_none_twice(service: Service) -> None:
    body = {"task": "examples.primes", "params": {"n": 10}}
    before = sum(service.get("/stats")["jobs"].values())
    restarting = service.box.start("systemctl restart jobrunner-api; systemctl restart jobrunner-api")

    def submit_meanwhile() -> list[tuple[int | str, int]]:
        answers: list[tuple[int | str, int]] = []
        while restarting.poll() is None:
            try:
                status, job = service.ask("POST", "/jobs", body)
                answers.append((status, job["id"]))
            except (OSError, HTTPException) as error:
                answers.append((repr(error), 0))
        return answers

    with ThreadPoolExecutor(8) as crowd:
        crowds = [crowd.submit(submit_meanwhile) for _ in range(8)]
        answers = [answer for one in crowds for answer in one.result()]
    assert restarting.returncode == 0
    assert {status for status, _ in answers} == {202}, service.box.journal()
    assert len({job_id for _, job_id in answers}) == len(answers) >= 8
    assert sum(service.get("/stats")["jobs"].values()) == before + len(answers)


def test_a_stream_that_a_restart_ends_goes_on_after_the_last_event_that_was_seen(service: Service) -> None:
    job_id = service.submit_waiting("streamed")
    with service.stream(f"/jobs/{job_id}/events") as before:
        assert before.readline() == b"retry: 2000\n"
        service.box.run("systemctl restart jobrunner-api")
        seen = [int(seq) for seq in re.findall(rb"^id: (\d+)$", before.read(), re.MULTILINE)]
    service.touch("streamed")
    with service.stream(f"/jobs/{job_id}/events", {"Last-Event-ID": str(seen[-1])}) as after:
        said = after.read()
    assert seen + [int(seq) for seq in re.findall(rb"^id: (\d+)$", said, re.MULTILINE)] == [1, 2, 3, 3]
    assert said.endswith(b"\n\n")
    assert b"event: end\n" in said


def test_everybody_on_the_machine_may_connect_and_nobody_from_outside(service: Service) -> None:
    ask = "curl -sS -o /dev/null -w '%{http_code}'"
    assert service.box.run(f"runuser -u nobody -- {ask} http://127.0.0.1:8000/livez") == "200"
    service.box.run("ip address add 192.0.2.1/32 dev lo")
    assert service.box.run(f"{ask} http://192.0.2.1:8000/livez 2>&1 || true").endswith("000")
    for place in ("jobrunner.db", "files"):
        seen = service.box.run(f"runuser -u nobody -- ls /var/lib/jobrunner/{place} 2>&1 || true")
        assert "Permission denied" in seen


def test_a_request_starts_an_api_that_was_stopped(service: Service) -> None:
    service.box.run("systemctl stop jobrunner-api.service")
    assert service.get("/readyz")["ready"]


def test_a_stop_lets_jobs_finish_and_comes_back_when_all_has_stopped(service: Service) -> None:
    job_id = service.submit_waiting("during-the-stop")
    in_a_minute(lambda: 'Status: "1 running, 0 queued' in service.status())
    stopping = service.box.start(blocks("Stop")[0])
    in_a_minute(lambda: 'Status: "draining: 1 running, 0 queued' in service.status())
    service.touch("during-the-stop")
    assert stopping.wait(60) == 0
    assert service.states() == {"inactive"}
    assert service.box.show(DISPATCHER, "Result") == "success"
    service.type(blocks("Start")[0])
    assert service.result(job_id) == 1


def test_a_start_comes_back_when_the_modules_are_imported_and_jobs_can_run(service: Service) -> None:
    service.box.run(f"systemctl stop {DISPATCHER}")
    service.touch("no-import")
    service.remove("import.started")
    with service.box.start(f"systemctl start {DISPATCHER}") as starting:
        try:
            in_a_minute(lambda: service.has("import.started"))
            assert service.box.show(DISPATCHER, "ActiveState") == "activating"
            assert service.ask("GET", "/readyz")[0] == 503
            assert starting.poll() is None
        finally:
            service.remove("no-import")
    assert starting.returncode == 0
    assert service.get("/readyz")["ready"]
    assert service.result(service.submit("mytasks.answer")) == "new code"


def test_a_module_that_ends_its_process_is_named_and_other_tasks_run(service: Service) -> None:
    with _modules(service, deadly="import os; os._exit(3)"):
        service.box.run(f"systemctl restart {DISPATCHER}")
        status, problem = service.ask("GET", "/readyz")
        assert status == 503
        assert "deadly: importing it ended the process: exit code 3" in str(problem["checks"])
        assert service.result(service.submit("mytasks.answer")) == "new code"


def test_a_dispatcher_that_cannot_start_says_why_and_goes_on_trying(service: Service) -> None:
    same = "from jobrunner import task\n@task(name='same')\ndef same() -> None: ..."
    with _modules(service, one=same, other=same):
        assert service.box.start(f"systemctl restart {DISPATCHER}").wait(60) == 1
        in_a_minute(lambda: service.box.show(DISPATCHER, "SubState") == "auto-restart")
        assert "same" in service.box.run(f"journalctl --no-pager -n 5 -u {DISPATCHER}")
    in_a_minute(lambda: service.box.show(DISPATCHER, "ActiveState") == "active")
    assert service.result(service.submit("mytasks.answer")) == "new code"


@contextlib.contextmanager
def _modules(service: Service, **sources: str) -> Iterator[None]:
    """Have these modules listed beside the others."""
    settings = service.box.root / "etc/jobrunner/jobrunner.toml"
    kept = settings.read_text(encoding="utf-8")
    for name, source in sources.items():
        module = service.box.root / f"usr/local/lib/jobrunner/{name}.py"
        module.write_text(source, encoding="utf-8")
    listed = "".join(f', "{name}"' for name in sources)
    settings.write_text(kept.replace('"mytasks"', f'"mytasks"{listed}'), encoding="utf-8")
    try:
        yield
    finally:
        settings.write_text(kept, encoding="utf-8")


def test_a_second_sigterm_gives_jobs_back_at_once(service: Service) -> None:
    job_id = service.submit_waiting("after-the-stop")
    stopping = service.box.start(f"systemctl stop {DISPATCHER}")
    in_a_minute(lambda: "draining: 1 running" in service.box.show(DISPATCHER, "StatusText"))
    service.box.run("systemctl kill --kill-whom=main jobrunner-dispatcher")
    assert stopping.wait(60) == 0
    service.touch("after-the-stop")
    service.box.run(f"systemctl start {DISPATCHER}")
    assert service.result(job_id) == 2


def test_a_wrong_setting_fails_the_unit_and_is_named_in_the_journal(service: Service) -> None:
    settings = "/etc/jobrunner/jobrunner.toml"
    service.box.run(f"cp {settings} /tmp/kept; echo 'workers = 0' >>{settings}")
    service.box.run(f"systemctl restart {DISPATCHER} || true")
    assert service.box.show(DISPATCHER, "ActiveState") == "failed"
    assert "workers" in service.box.run(f"journalctl --no-pager -n 5 -u {DISPATCHER}")
    service.box.run(f"cp /tmp/kept {settings}; systemctl restart {DISPATCHER}")


def test_an_upgrade_keeps_the_jobs_and_a_copy_of_the_store(service: Service) -> None:
    job_id = service.submit("examples.primes", n=100)
    service.result(job_id)
    [upgrade] = blocks("Upgrade")
    service.type(upgrade)
    assert service.result(job_id)["count"] == 25
    copy = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT max(id) FROM job').fetchone()[0])"
    assert service.box.run(f'python3 -c "{copy}" /var/lib/jobrunner/before-*.db').strip() == str(job_id)


def test_what_is_removed_is_gone(service: Service) -> None:
    program, data = blocks("Remove")
    service.type(program)
    service.type(data)
    made_here = "-newer /etc/machine-id -name '*jobrunner*'"
    assert service.box.run(f"find /etc /opt /usr/local /var /run /tmp -xdev -maxdepth 4 {made_here}") == ""
    assert service.box.run("grep jobrunner /etc/passwd /etc/group || true") == ""
