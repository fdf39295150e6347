"""The migrations that the program brings along."""

from pathlib import Path

import jobrunner


def folder() -> Path:
    """Return where they are."""
    package = Path(jobrunner.__file__).parent
    shipped = package / "_migrations"  # in a wheel; in a checkout the folder stands beside the package
    return shipped if shipped.is_dir() else package.parent / "migrations"


def known() -> list[str]:
    """Return their names, which are numbers, in order."""
    return sorted(path.stem.partition("_")[0] for path in (folder() / "versions").glob("*.py"))
