"""Imports task modules as a dispatcher does, and prints as JSON what came of it.

`python -m jobrunner.doctor.importing MODULE...`, so that the doctor can do it as another user, and end it.
"""

import json
import signal
import sys

from jobrunner import kernel
from jobrunner.dispatcher.catalogue import describe
from jobrunner.dispatcher.handle import kill_children
from jobrunner.dispatcher.tickets import Code, Limits
from jobrunner.errors import TaskModulesError
from jobrunner.settings import Settings


def main(modules: tuple[str, ...]) -> None:
    """Print `tasks`, how many there are; `errors`, by module; and `refused`, why none can be served, or null."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by which the job process is killed on the way out
    kernel.adopt_orphans()
    defaults = Settings()
    limits = Limits(**{name: getattr(defaults, name) for name in Limits._fields})
    try:
        found = describe(Code(1, modules), limits)
        print(json.dumps({"tasks": len(found.tasks), "errors": found.errors, "refused": None}))  # noqa: T201 - to the doctor
    except TaskModulesError as error:
        print(json.dumps({"tasks": 0, "errors": {}, "refused": str(error)}))  # noqa: T201 - to the doctor
    finally:
        kill_children()  # what a module has started


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
