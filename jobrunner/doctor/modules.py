"""Task modules: whether they can be imported, by who serves them and as they lie there now."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from jobrunner.dispatcher.handle import IMPORT_SECONDS
from jobrunner.doctor.findings import Said, Told, ok, serious, warning
from jobrunner.doctor.situation import Situation
from jobrunner.errors import TaskModulesError
from jobrunner.tasks.loading import in_one_line

PATIENCE_SECONDS: Final = 20.0  #: for all modules together; a dispatcher waits longer
_END_SECONDS: Final = 5.0


def check(situation: Situation) -> Told:
    """Whether all task modules can be imported."""
    told: set[str] = set()
    for one in situation.living:
        errors: dict[str, str] = json.loads(one.module_errors)
        told |= errors.keys()
        for module, why in errors.items():
            remedy = f"correct it, then kill -HUP {one.pid}"
            yield serious(f"dispatcher {one.id} does not serve {module}: {in_one_line(why)}; {remedy}")
    found = _import(situation)
    if found is None:
        yield warning(
            f"{', '.join(situation.settings.tasks)}: not imported within {PATIENCE_SECONDS:g} s; a dispatcher "
            f"waits {IMPORT_SECONDS:g} s, then starts without: do less while they are imported"
        )
        return
    if found["refused"]:
        yield serious(f"no dispatcher can start: {found['refused']}")
    for module, why in found["errors"].items():
        if module not in told:
            yield _broken(situation, module, in_one_line(why))
    if not told and not found["errors"] and not found["refused"]:
        names = ", ".join(situation.settings.tasks)
        yield ok(f"{names} can be imported: {found['tasks']} tasks")


def _broken(situation: Situation, module: str, why: str) -> Said:
    said = f"{module} cannot be imported: {why}"
    if situation.living:
        return warning(f"{said}; the next start or reload would not serve it: correct it before")
    return serious(f"{said}; its tasks would not be served: correct it, or see PYTHONPATH")


def _import(situation: Situation) -> dict[str, Any] | None:
    """Import the modules as a dispatcher would, as its user, and return what `importing` prints.

    None if that took too long.

    Raises:
        TaskModulesError: not even the process came up.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "jobrunner.doctor.importing", *situation.settings.tasks],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **_surroundings(situation),
    )
    with child:
        try:
            printed, complaint = child.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            _end(child)
            return None
        except BaseException:
            _end(child)
            raise
    if child.returncode != 0:
        raise TaskModulesError(f"the task modules cannot be looked at: {in_one_line(complaint)}")
    found: dict[str, Any] = json.loads(printed)
    return found


def _end(child: "subprocess.Popen[str]") -> None:
    child.terminate()  # it ends what it has started
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def _surroundings(situation: Situation) -> dict[str, Any]:
    """Return how to start a process like a dispatcher: its directory, its environment, its user."""
    environ: dict[str, str] = dict(os.environ)
    directory: Path | None = None
    if situation.unit_serves:
        environ = {
            name: environ[name] for name in ("PATH", "LANG") if name in environ
        } | situation.unit.environ
        directory = situation.unit.directory if situation.unit.directory.is_dir() else Path("/")
    user = _account(situation.unit.user if situation.unit_serves else str(situation.directory.stat().st_uid))
    if os.geteuid() != 0 or user is None or user.pw_uid == 0:
        return {"env": environ, "cwd": directory}
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    environ |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    return {
        "env": environ,
        "cwd": directory,
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": groups,
    }


def _account(user: str) -> pwd.struct_passwd | None:
    """Return the user of this name or number; None if this machine does not know it."""
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        return None
