"""What daemons say: one line each on stderr, with the time and who speaks."""

import logging


def to_stderr(part: str, level: str) -> None:
    """Send this process's log to stderr; `level` is a value of the setting `log_level`."""
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s {part:10} %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which schema it found is of no news
