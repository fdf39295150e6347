"""Jobs that eat all the memory that the unit may have, where the kernel's OOM killer is real."""

from tests.deploy.page import blocks
from tests.deploy.service import DISPATCHER, Service

_UNIT_BYTES = 512 << 20


def test_a_job_that_the_kernel_kills_harms_neither_its_neighbour_nor_the_unit(limited: Service) -> None:
    limited.drop_in(f"MemoryMax={_UNIT_BYTES}", "Environment=JOBRUNNER_WORKERS=2")
    limited.type(blocks("Your own tasks")[0])
    main_pid = limited.main_pid()
    neighbour = limited.submit_waiting("neighbour-may-end")

    error = limited.failure(limited.submit("mytasks.eat", limit_bytes=2 * _UNIT_BYTES, crash_retries=0))
    assert (error["kind"], error["signal"], error["oom_killed"]) == ("crashed", "SIGKILL", True)
    # A child of a job is as near to the knife as the job itself, however small beside the dispatcher.
    assert limited.result(limited.submit("mytasks.eat_with_children", count=2 * _UNIT_BYTES // (16 << 20)))

    assert limited.main_pid() == main_pid
    assert limited.box.show(DISPATCHER, "ActiveState") == "active"
    limited.touch("neighbour-may-end")
    assert limited.result(neighbour) == 1  # the attempt
    assert limited.result(limited.submit("mytasks.answer")) == "old code"
