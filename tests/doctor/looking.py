"""Looking at a store as the doctor does."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jobrunner.doctor.findings import Grade, Said
from jobrunner.doctor.situation import Situation, look_around
from jobrunner.doctor.units import Unit
from jobrunner.settings import Settings

NO_UNIT = Unit("jobrunner-dispatcher.service", {})


def look(data: Path, unit: Unit = NO_UNIT, **settings: Any) -> Situation:
    given: dict[str, Any] = {"data": data, "tasks": ("faults",), "workers": 2} | settings
    return look_around(Settings(**given), unit)


def grades(told: Iterable[Said]) -> list[Grade]:
    return [grade for grade, _ in told]


def serious(told: Iterable[Said]) -> list[str]:
    """What was said that is serious."""
    return [text for grade, text in told if grade is Grade.SERIOUS]


def warnings(told: Iterable[Said]) -> list[str]:
    return [text for grade, text in told if grade is Grade.WARNING]
