"""Task modules that cannot be imported, as the dispatchers that live have told."""

import json

from sqlalchemy import Connection

from jobrunner.api.replies import situation
from jobrunner.store import dispatchers
from jobrunner.tasks.loading import in_one_line


def broken(connection: Connection) -> dict[str, str]:
    """Return, by module, why it cannot be imported, in one line."""
    around = situation(connection)
    found: dict[str, str] = {}
    for one in dispatchers.alive(connection):
        if around.is_fresh(one):
            found |= json.loads(one.module_errors)
    return {module: in_one_line(why) for module, why in found.items()}
