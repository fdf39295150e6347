import string
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from jobrunner import current_job
from jobrunner.examples.word_count import word_count
from tests.examples.running import Told, drained, result

LIBRARY = Path(sysconfig.get_path("stdlib"))
#: each ASCII letter to its small one, every other byte to a space
SMALL_LETTERS = bytes(ord(chr(b).lower()) if chr(b) in string.ascii_letters else 32 for b in range(256))


def counted(files: list[Path]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for file in files:
        counts.update(file.read_bytes().translate(SMALL_LETTERS).decode("ascii").split())
    return counts


def test_the_counts_are_those_of_a_plain_counter() -> None:
    expected = counted(list(LIBRARY.glob("json/**/*.py")))
    found = result(word_count(pattern="json/*", top=10_000))
    assert {entry["word"]: entry["count"] for entry in found["top"]} == expected
    assert found["words"] == expected.total()
    assert found["distinct"] == len(expected)


def test_without_a_pattern_the_whole_library_is_read_but_nothing_installed_beside_it() -> None:
    own = [
        file
        for file in LIBRARY.rglob("*.py")
        if file.is_file() and {"site-packages", "dist-packages"}.isdisjoint(file.parts)
    ]
    expected = counted(own)
    found = result(word_count(top=3))
    assert (found["files"], found["words"]) == (len(own), expected.total())
    assert [(entry["word"], entry["count"]) for entry in found["top"]] == expected.most_common(3)


def test_the_top_is_sorted_and_equally_frequent_words_go_by_the_alphabet() -> None:
    top = result(word_count(pattern="json/*", top=10_000))["top"]
    assert top == sorted(top, key=lambda entry: (-entry["count"], entry["word"]))
    assert result(word_count(pattern="json/*", top=7))["top"] == top[:7]


def test_every_50_files_and_the_last_one_give_a_partial_result() -> None:
    partials, found = drained(word_count(pattern="[a-e]*"))
    files = found["files"]
    assert files > 100
    assert [partial["files"] for partial in partials] == [*range(50, files, 50), files]
    assert [partial["words"] for partial in partials] == sorted(partial["words"] for partial in partials)
    assert partials[-1] == {key: found[key] for key in ("files", "words", "distinct")}


def test_progress_is_told_in_files(told: Told) -> None:
    found = result(word_count(pattern="json/*"))
    current_job().flush()
    files = found["files"]
    assert [told[0], told[-1]] == [(1, files, "json/__init__.py"), (files, files, "json/tool.py")]


@pytest.mark.parametrize("pattern", ["", "no/such/*", "/etc/*", "../*", "*.txt"])
def test_a_pattern_that_matches_no_file_of_the_library_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"no Python file below .* matches"):
        next(word_count(pattern=pattern))


def test_a_top_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="top must be at least 1, not 0"):
        next(word_count(top=0))
