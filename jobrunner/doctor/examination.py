"""The table of checks, and the examination that runs them all."""

from collections.abc import Callable
from typing import Final

from jobrunner.doctor import (
    address,
    clock,
    dispatchers,
    filesystem,
    limits,
    modules,
    sqlite,
    units,
)
from jobrunner.doctor.findings import Finding, Said, Told, warning
from jobrunner.doctor.situation import Situation, look_around
from jobrunner.settings import Settings

#: by the name that is printed
CHECKS: Final[dict[str, Callable[[Situation], Told]]] = {
    "filesystem": filesystem.kind,
    "space": filesystem.room,
    "access": filesystem.access,
    "sqlite": sqlite.library,
    "schema": sqlite.schema,
    "wal": sqlite.wal,
    "integrity": sqlite.integrity,
    "clock": clock.check,
    "unit": lambda situation: units.told(situation.unit, serves=situation.unit_serves),
    "limits": limits.check,
    "address": address.check,
    "dispatchers": dispatchers.check,
    "queue": dispatchers.queue,
    "modules": modules.check,
}


def examine(settings: Settings, unit: str = units.DEFAULT) -> list[Finding]:
    """Run every check; change nothing, create nothing.

    Args:
        settings: whose store and tasks are looked at.
        unit: the name of the dispatcher's unit.

    Raises:
        StoreError: `database_url` names no store that this version can use.
    """
    situation = look_around(settings, units.ask(unit))
    try:
        return [
            Finding(grade, name, text)
            for name, check in CHECKS.items()
            for grade, text in outcome(check, situation)
        ]
    finally:
        situation.store.close()


def outcome(check: Callable[[Situation], Told], situation: Situation) -> list[Said]:
    """Return what a check says; if it fails itself, that too, as a warning."""
    found = []
    try:
        for said in check(situation):
            found.append(said)  # noqa: PERF402 - what was said before it failed is kept
    except Exception as error:  # noqa: BLE001 - what one check stumbles over must not hide what others find
        why = " ".join(f"{type(error).__name__}: {error}".split())
        found.append(warning(f"this check failed itself: {why}"))
    return found
