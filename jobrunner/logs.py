"""What daemons say: one line each on stderr, with the time and who speaks."""

import logging
from typing import Final

TIME_FORMAT: Final = "%H:%M:%S"


def line_format(part: str) -> str:
    """Return the format of a line that `part` says."""
    return f"%(asctime)s {part:10} %(levelname)-7s %(message)s"


def to_stderr(part: str, level: str) -> None:
    """Send this process's log to stderr; `level` is a value of the setting `log_level`."""
    logging.basicConfig(level=level.upper(), format=line_format(part), datefmt=TIME_FORMAT)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which schema it found is of no news
