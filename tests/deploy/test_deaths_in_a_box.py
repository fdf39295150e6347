"""What systemd, and whoever may, does to the processes of the units, and what becomes of the jobs.

Each test leaves the service running for the next.
"""

import pytest

from tests.deploy.page import blocks
from tests.deploy.service import API, DISPATCHER, Service, in_a_minute

pytestmark = pytest.mark.usefixtures("prepared")

_SETTINGS = (
    "Environment=JOBRUNNER_WORKERS=2 JOBRUNNER_DRAIN_SECONDS=1 JOBRUNNER_GRACE_SECONDS=1",
    # So long a lease that nobody is found dead by it: pids must tell, and after a power cut the id of the new boot.
    "Environment=JOBRUNNER_LEASE_SECONDS=3600",
    "BindReadOnlyPaths=/run/boot_id:/proc/sys/kernel/random/boot_id",
)
# Its handler runs in the main thread, between two lines of the loop, and never comes back.
_HANG = """
import signal, time
def hang(signum, frame):
    while True:
        time.sleep(1)
signal.signal(signal.SIGUSR2, hang)
"""


@pytest.fixture(scope="module")
def prepared(service: Service) -> None:
    (service.box.root / "usr/local/lib/jobrunner/sitecustomize.py").write_text(_HANG, encoding="utf-8")
    service.drop_in(*_SETTINGS)
    service.type(blocks("Your own tasks")[0])


def _wait_for_restart(service: Service, before: int) -> None:
    # The pid first: it may still be the old process that is active, and gone a moment later.
    in_a_minute(
        lambda: (
            service.main_pid() not in {before, 0} and service.box.show(DISPATCHER, "ActiveState") == "active"
        )
    )


def _journal(service: Service, since: str = "yesterday") -> str:
    return service.box.run(f"journalctl --no-pager -o cat -u {DISPATCHER} --since={since}")


# -- one process dies --------------------------------------------------------------------------


def test_a_killed_dispatcher_comes_back_and_what_ran_runs_again(service: Service) -> None:
    job_id = service.submit_waiting("after-the-kill")
    before = service.main_pid()
    service.box.run(f"systemctl kill --kill-whom=main -s KILL {DISPATCHER}")
    _wait_for_restart(service, before)
    service.touch("after-the-kill")
    assert service.result(job_id) == 2  # the attempt
    assert service.outcomes(job_id) == ["lost", "succeeded"]


def test_a_killed_worker_costs_its_own_job_one_retry_and_its_neighbour_none(service: Service) -> None:
    jobs = {service.submit_waiting(name): name for name in ("of-the-dead-worker", "of-its-neighbour")}
    before = service.main_pid()
    slots = in_a_minute(lambda: [slot for slot in _slots(service) if slot["job_id"] in jobs])
    [killed] = [slot for slot in slots if jobs[slot["job_id"]] == "of-the-dead-worker"]
    service.kill(killed["pid"])
    _wait_for_restart(service, before)
    assert "status=70" in _journal(service)
    for job_id, name in jobs.items():
        service.touch(name)
        assert service.result(job_id) == 2
    assert [service.outcomes(job_id)[0] for job_id in jobs] == ["lost", "released"]


def test_a_killed_result_writer_ends_the_dispatcher_and_what_ran_runs_again(service: Service) -> None:
    job_id = service.submit_waiting("after-the-writer")
    before = service.main_pid()
    service.kill(_result_writer(service))
    _wait_for_restart(service, before)
    service.touch("after-the-writer")
    assert service.result(job_id) == 2


def test_a_request_waits_in_the_socket_while_a_killed_api_comes_back(service: Service) -> None:
    before = service.main_pid(API)
    service.box.run(f"systemctl kill --kill-whom=main -s KILL {API}")
    # Until then one that is about to die may still take it.
    in_a_minute(
        lambda: (
            service.box.show(API, "SubState") == "auto-restart" or service.main_pid(API) not in {before, 0}
        )
    )
    assert service.get("/livez") == {"alive": True}
    assert service.main_pid(API) not in {before, 0}


def test_a_killed_process_of_the_api_is_replaced(service: Service) -> None:
    main_pid = service.main_pid(API)
    [child] = service.children(main_pid)
    service.kill(child)
    assert service.get("/livez") == {"alive": True}
    assert service.main_pid(API) == main_pid
    assert service.children(main_pid) not in [[child], []]


# -- a job that does not want to end -----------------------------------------------------------


def test_a_stop_gives_back_what_does_not_end_before_systemd_loses_patience(service: Service) -> None:
    job_id = service.submit("mytasks.ignore_everything", name="stubborn")
    in_a_minute(lambda: service.has("stubborn.started"))
    service.box.run(f"systemctl stop {DISPATCHER}")
    assert service.box.show(DISPATCHER, "Result") == "success"
    assert service.job(job_id)["state"] == "queued"
    assert service.outcomes(job_id) == ["released"]
    service.box.run(f"systemctl start {DISPATCHER}")
    service.wait_for_attempt(job_id, 2)
    service.box.run(f"/opt/jobrunner/bin/jobrunner cancel {job_id}")


# -- the machine dies --------------------------------------------------------------------------


def test_after_a_reboot_all_comes_back_by_itself_and_no_job_has_paid(service: Service) -> None:
    jobs = _running_and_queued(service, "after-the-reboot")
    service.box.power_off()
    service.box.boot()
    _assert_all_goes_on(service, jobs, "after-the-reboot", first="released")


def test_after_a_power_cut_what_ran_is_found_at_once_and_runs_again(service: Service) -> None:
    jobs = _running_and_queued(service, "after-the-power-cut")
    service.box.cut_power()
    service.box.boot()
    _assert_all_goes_on(service, jobs, "after-the-power-cut", first="lost")


def _running_and_queued(service: Service, name: str) -> list[int]:
    """Return four jobs that wait for a file of this name: two run, two are queued."""
    jobs = [service.submit("mytasks.wait_for", name=name) for _ in range(4)]
    for job_id in jobs[:2]:
        service.wait_for_attempt(job_id, 1)
    return jobs


def _assert_all_goes_on(service: Service, jobs: list[int], name: str, *, first: str) -> None:
    service.touch(name)
    in_a_minute(lambda: service.states() == {"active"})
    ran = {job_id: service.result(job_id) for job_id in jobs}
    for job_id, before in zip(jobs, ([first], [first], [], []), strict=True):
        outcomes = service.outcomes(job_id)
        assert (outcomes[: len(before)], outcomes[-1]) == (before, "succeeded")
        # One that was claimed ahead of a long one is given back, uncharged, or was lost with it.
        assert set(outcomes[len(before) : -1]) <= {"released", first}
        assert ran[job_id] == len(outcomes)


# -- one process hangs: last, for it leaves the service with a watchdog in a hurry ------------


@pytest.fixture(scope="module")
def watched(service: Service) -> None:
    service.drop_in(*_SETTINGS, "WatchdogSec=6")
    service.box.run(f"systemctl restart {DISPATCHER}")


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("signal", ["USR2", "STOP"], ids=["its loop", "all of it"])
def test_a_dispatcher_that_hangs_leaves_its_stack_and_is_started_again(service: Service, signal: str) -> None:
    job_id = service.submit_waiting(f"after-{signal}")
    before = service.main_pid()
    began = service.box.run("date +@%s.%N").strip()
    service.box.run(f"systemctl kill --kill-whom=main -s {signal} {DISPATCHER}")
    _wait_for_restart(service, before)
    said = _journal(service, since=began)
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said
    assert ("in hang" if signal == "USR2" else "dispatcher/daemon.py") in said
    in_a_minute(lambda: (pid := service.main_pid()) and _all_processes(service) == _descendants(service, pid))
    service.touch(f"after-{signal}")
    assert service.result(job_id) == 2
    assert service.outcomes(job_id) == ["lost", "succeeded"]


# -- looking around ----------------------------------------------------------------------------


def _slots(service: Service) -> list[dict[str, int]]:
    slots: list[dict[str, int]] = service.get("/stats")["dispatchers"][-1]["slots"]
    return slots


def _result_writer(service: Service) -> int:
    """Return the pid of the one child of the Pool's forkserver that is no worker."""
    workers = {slot["pid"] for slot in in_a_minute(lambda: _slots(service))}
    below = [service.children(child) for child in service.children(service.main_pid())]
    [writer] = {pid for pids in below for pid in pids} - workers
    return writer


def _all_processes(service: Service) -> set[int]:
    place = service.box.show(DISPATCHER, "ControlGroup")
    return set(map(int, service.box.run(f"cat /sys/fs/cgroup{place}/cgroup.procs").split()))


def _descendants(service: Service, pid: int) -> set[int]:
    return {pid}.union(*(_descendants(service, child) for child in service.children(pid)))
