"""`jobrunner doctor` on a machine where systemd runs the dispatcher."""

import json

from tests.deploy.service import FILES, Service

DISPATCHER = "jobrunner-dispatcher.service"
DOCTOR = "/opt/jobrunner/bin/jobrunner doctor --config /etc/jobrunner/jobrunner.toml --json"


def doctor(service: Service, *flags: str, status: int) -> dict[str, list[tuple[str, str]]]:
    """Call it as root; return (grade, text) of what it says, by the name of the check."""
    said = service.box.run(f"cd /root; {DOCTOR} {' '.join(flags)} || echo status $?")
    report, _, found_status = said.partition("status ")
    assert int(found_status or 0) == status, said
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(report):
        found.setdefault(one["name"], []).append((one["grade"], one["text"]))
    return found


def test_what_the_page_installs_is_in_order(service: Service) -> None:
    found = doctor(service, status=0)
    for name in ("access", "schema", "integrity", "unit", "limits", "dispatchers", "queue", "modules"):
        assert [grade for grade, _ in found[name]] == ["ok"], found[name]
    assert found["access"] == [("ok", "/var/lib/jobrunner belongs to jobrunner, and others cannot read it")]
    assert found["dispatchers"][0][1].startswith("1 dispatcher alive")


def test_tasks_are_imported_as_the_service_does_it(service: Service) -> None:
    code = "import os; raise ValueError(os.getuid() == 0, os.getcwd(), os.environ['HOME'])"
    service.box.run(f'install -d /usr/local/lib/jobrunner; echo "{code}" >/usr/local/lib/jobrunner/broken.py')
    ((grade, text),) = doctor(service, "--tasks", "broken", status=0)["modules"]
    home = service.box.run("getent passwd jobrunner").split(":")[5]
    assert grade == "warning"  # the dispatcher that runs does without
    assert text.startswith(f"broken cannot be imported: ValueError: (False, '{FILES}', '{home}');")


def test_jobs_that_wait_while_the_dispatcher_is_stopped_are_serious(service: Service) -> None:
    service.box.run(f"systemctl stop {DISPATCHER}")
    job_id = service.submit("examples.primes", n=100)
    ((grade, text),) = doctor(service, status=1)["queue"]
    remedy = f"systemctl start {DISPATCHER}"
    assert (grade, text.endswith(f"and no dispatcher runs: {remedy}")) == ("serious", True)
    service.box.run(remedy)
    assert service.result(job_id)["count"] == 25


def test_a_drop_in_that_loses_jobs_is_serious_and_named(service: Service) -> None:
    lines = "[Service]\\nKillMode=control-group\\nOOMPolicy=stop\\nTimeoutStopSec=20\\n"
    folder = f"/etc/systemd/system/{DISPATCHER}.d"
    service.box.run(f"mkdir -p {folder}; printf '{lines}' >{folder}/doctor.conf; systemctl daemon-reload")
    found = doctor(service, status=1)["unit"]
    assert [grade for grade, _ in found] == ["serious"] * 3
    for line in ("KillMode=mixed", "TimeoutStopSec=60", "OOMPolicy=continue"):
        assert f"write {line} under [Service] by `systemctl edit {DISPATCHER}`" in str(found)
