"""The page's commands, and the units, under a systemd of their own.

Each test leaves the service running for the next, but for the last, which removes it.
"""

import statistics

from tests.deploy.page import blocks
from tests.deploy.service import FILES, URL, Service
from tests.waiting import eventually

DISPATCHER = "jobrunner-dispatcher.service"


def test_once_the_start_command_comes_back_jobs_run(service: Service) -> None:
    assert service.get("/readyz")["ready"]
    assert "succeeded" in service.type(blocks("Start")[1])


def test_the_pages_look_shows_how_the_dispatcher_is(service: Service) -> None:
    eventually(lambda: service.box.show(DISPATCHER, "StatusText"))
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
    eventually(lambda: service.box.show(DISPATCHER, "WatchdogTimestampMonotonic") not in {fed, "0"})


def test_own_tasks_are_served_and_a_reload_takes_their_new_code(service: Service) -> None:
    first_time, after_a_change = blocks("Your own tasks")
    service.type(first_time)
    assert service.result(service.submit("mytasks.answer")) == "old code"
    service.type("sed -i 's/old code/new code/' mytasks.py")
    service.type(after_a_change)
    eventually(lambda: service.result(service.submit("mytasks.answer")) == "new code", seconds=20)
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


def test_restarting_the_api_loses_no_request(service: Service) -> None:
    ask = f"curl -sS -o /dev/null -w '%{{http_code}} ' {URL}/livez"
    service.box.run(
        f"(for request in $(seq 60); do {ask}; done) >/tmp/answers & systemctl restart jobrunner-api.service; wait"
    )
    assert service.box.run("cat /tmp/answers").split() == ["200"] * 60


def test_a_request_starts_an_api_that_was_stopped(service: Service) -> None:
    service.box.run("systemctl stop jobrunner-api.service")
    assert service.get("/readyz")["ready"]


def test_a_killed_dispatcher_comes_back_and_what_ran_runs_again(service: Service) -> None:
    job_id = service.submit_waiting("after-the-kill")
    before = service.box.show(DISPATCHER, "NRestarts")
    service.box.run(f"systemctl kill --kill-whom=main -s KILL {DISPATCHER}")
    eventually(lambda: service.box.show(DISPATCHER, "NRestarts") != before, seconds=20)
    service.touch("after-the-kill")
    assert service.result(job_id) == 2  # the attempt


def test_a_stop_lets_jobs_finish_and_comes_back_when_all_has_stopped(service: Service) -> None:
    job_id = service.submit_waiting("during-the-stop")
    stopping = service.box.start(blocks("Stop")[0])
    eventually(lambda: "draining: 1 running" in service.box.show(DISPATCHER, "StatusText"))
    service.touch("during-the-stop")
    assert stopping.wait(20) == 0
    assert service.states() == {"inactive"}
    assert service.box.show(DISPATCHER, "Result") == "success"
    service.type(blocks("Start")[0])
    assert service.result(job_id) == 1


def test_a_second_sigterm_gives_jobs_back_at_once(service: Service) -> None:
    job_id = service.submit_waiting("after-the-stop")
    stopping = service.box.start(f"systemctl stop {DISPATCHER}")
    eventually(lambda: "draining: 1 running" in service.box.show(DISPATCHER, "StatusText"))
    service.box.run("systemctl kill --kill-whom=main jobrunner-dispatcher")
    assert stopping.wait(20) == 0
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
