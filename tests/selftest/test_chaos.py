"""What chaos decides follows from the seed; whom it takes for whom follows from the processes."""

from itertools import islice, takewhile

from jobrunner.selftest.chaos import BLOWS, PINPRICKS, How, decisions
from jobrunner.selftest.members import Member
from jobrunner.selftest.roles import Role, assign
from jobrunner.selftest.stage import LEASE_SECONDS

FORKSERVER = ("python", "-c", "from multiprocessing.forkserver import main")


def test_the_same_seed_decides_the_same_and_another_something_else() -> None:
    assert list(islice(decisions(7), 1000)) == list(islice(decisions(7), 1000))
    assert list(islice(decisions(7), 1000)) != list(islice(decisions(8), 1000))


def test_every_deed_comes_up_and_ten_minutes_hold_500_kills_and_more() -> None:
    decided = list(takewhile(lambda one: one.at_seconds < 600, decisions(1)))
    assert {one.deed for one in decided} == {*PINPRICKS.weights, *BLOWS.weights}
    assert sum(one.deed.how is How.KILL for one in decided) > 900, "some find nobody who could be killed"
    assert [one.at_seconds for one in decided] == sorted(one.at_seconds for one in decided)


def test_what_stands_still_does_so_for_longer_than_the_lease() -> None:
    held = [one for one in islice(decisions(1), 1000) if one.deed.how in (How.HOLD, How.HOLD_FAMILY)]
    assert min(one.hold_seconds for one in held) > LEASE_SECONDS + 1


def test_each_process_has_the_role_that_it_plays() -> None:
    serve, api, dispatcher = (("python", "-m", "jobrunner", name) for name in ("serve", "api", "dispatcher"))
    job = ("python", "-m", "jobrunner.dispatcher.job_process", "7")
    cast = {
        Member(1, 0, 0, serve): Role.SERVE,
        Member(2, 0, 1, serve): None,  # about to become the API
        Member(3, 0, 1, api): Role.API,
        Member(4, 0, 3, api): Role.API_WORKER,
        Member(5, 0, 1, dispatcher): Role.DISPATCHER,
        Member(6, 0, 5, FORKSERVER): Role.FORKSERVER,
        Member(7, 0, 6, FORKSERVER): Role.WRITER,
        Member(8, 0, 6, FORKSERVER): Role.WORKER,
        Member(9, 0, 8, job): Role.JOB_PROCESS,
        Member(10, 0, 8, FORKSERVER): None,  # about to become a job process
        Member(11, 0, 5, ("python", "-c", "from multiprocessing.resource_tracker import main")): None,
        # of another dispatcher, whose workers nobody knows yet
        Member(12, 0, 1, dispatcher): Role.DISPATCHER,
        Member(13, 0, 12, FORKSERVER): None,
        Member(14, 0, 13, FORKSERVER): None,
        # a serve that was killed: who is left
        Member(15, 0, 999, api): Role.API,
    }
    found = assign(list(cast), worker_pids={8, 4242})
    assert {member: role for role, those in found.items() for member in those} == {
        member: role for member, role in cast.items() if role is not None
    }
