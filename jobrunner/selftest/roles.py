"""Who is who among the processes of a selftest."""

from collections.abc import Collection
from enum import StrEnum

from jobrunner.selftest.members import Member


class Role(StrEnum):
    """What a process does; see the drawing in the README."""

    JOB_PROCESS = "job process"
    WORKER = "worker"
    WRITER = "result writer"
    FORKSERVER = "forkserver"
    DISPATCHER = "dispatcher"
    API_WORKER = "API worker"
    API = "API"
    SERVE = "serve"


def assign(members: list[Member], worker_pids: Collection[int]) -> dict[Role, list[Member]]:
    """Return the processes of each role.

    Args:
        members: all of the selftest.
        worker_pids: of the workers, as the dispatchers' heartbeats tell them.  From the outside a worker looks like
            the result writer and the forkserver that both come from.
    """
    by_pid = {member.pid: member for member in members}
    # A dispatcher whose workers are not known yet is still coming up: there is no telling who the writer is.
    up = {by_pid[pid].parent for pid in worker_pids if pid in by_pid}
    found: dict[Role, list[Member]] = {role: [] for role in Role}
    for member in members:
        role = _role(member, by_pid.get(member.parent), worker_pids, up)
        if role is not None:
            found[role].append(member)
    return found


def _role(
    member: Member, parent: Member | None, worker_pids: Collection[int], up: Collection[int]
) -> Role | None:
    if "jobrunner.dispatcher.job_process" in member.command:
        return Role.JOB_PROCESS
    if member.pid in worker_pids:
        return Role.WORKER
    if member.command[-3:-1] == ("-m", "jobrunner"):
        return _of_command(member, parent)
    if member.pid in up and any("multiprocessing.forkserver" in word for word in member.command):
        return Role.FORKSERVER
    if parent is not None and parent.command == member.command and member.parent in up:
        return Role.WRITER
    return None


def _of_command(member: Member, parent: Member | None) -> Role | None:
    # A child looks like its parent until it has become another program; the API's workers always do.
    is_child_of_same = parent is not None and parent.command == member.command
    match member.command[-1]:
        case "api":
            return Role.API_WORKER if is_child_of_same else Role.API
        case "dispatcher":
            return None if is_child_of_same else Role.DISPATCHER
        case "serve":
            return None if is_child_of_same else Role.SERVE
    return None
