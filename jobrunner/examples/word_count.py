"""The most frequent words in the source code of Python's standard library."""

import os
import re
from collections import Counter
from collections.abc import Generator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from jobrunner import current_job, task

LIBRARY: Final = Path(os.__file__).parent
_WORD: Final = re.compile(rb"[a-z]+")
_FILES_PER_PARTIAL: Final = 50
_NOT_ITS_OWN: Final = {"site-packages", "dist-packages", "__pycache__"}


@task(name="examples.word_count")
def word_count(
    top: Annotated[int, Meta(ge=1, le=10_000)] = 20,
    pattern: str = "*.py",
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Count the words of the standard library; one partial result for every 50 files.

    A word is a run of the letters a to z, in either case.

    Args:
        top: how many of the most frequent words to return; equally frequent ones go by the alphabet.
        pattern: which files, by their path below the library: `json/*`, `test/*.py`.  A `*` matches
            slashes too.

    Raises:
        ValueError: no file matches `pattern`, or `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, not {top}")
    names = _library_files(pattern)
    counts: Counter[bytes] = Counter()
    for done, name in enumerate(names, start=1):
        # Bytes, for not every file is UTF-8: some test what Python makes of other encodings.
        counts.update(_WORD.findall((LIBRARY / name).read_bytes().lower()))
        current_job().progress(done, len(names), name)
        if done % _FILES_PER_PARTIAL == 0 or done == len(names):
            yield {"files": done, "words": counts.total(), "distinct": len(counts)}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "files": len(names),
        "words": counts.total(),
        "distinct": len(counts),
        "top": [{"word": word.decode(), "count": count} for word, count in ranked[:top]],
    }


def _library_files(pattern: str) -> list[str]:
    names: list[str] = []
    for folder, folders, files in os.walk(LIBRARY):
        folders[:] = [name for name in folders if name not in _NOT_ITS_OWN]
        paths = (Path(folder, name).relative_to(LIBRARY).as_posix() for name in files if name.endswith(".py"))
        names += [path for path in paths if fnmatchcase(path, pattern)]
    if not names:
        raise ValueError(f"no Python file below {LIBRARY} matches {pattern!r}")
    return sorted(names)
