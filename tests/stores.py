"""New stores at the price of a copy: in each process of a test run the migrations make one."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from jobrunner.store import migrations
from jobrunner.store.engine import Store


def prepared(path: Path) -> Store:
    """Open the store at `path`; make an empty one if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        shutil.copy(_made_once(), path)
    return Store(f"sqlite:///{path}")


@functools.cache
def _made_once() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="jobrunner-tests-"))
    atexit.register(shutil.rmtree, folder)
    store = Store(f"sqlite:///{folder / 'empty.db'}")
    migrations.prepare(store)
    store.close()
    return store.path
