"""The journal: what is written into it is read out of it, and it is on the disk when it is written."""

from pathlib import Path

import pytest

from jobrunner.selftest.journal import Acknowledgement, Deed, Journal, Submission, read

ONE, TWO = ({"task": "t", "params": {"stamp": stamp}} for stamp in ("a", "b"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_all_that_was_asked_and_answered_is_read_back_at_once(path: Path) -> None:
    with Journal(path) as journal:
        single, batch = journal.asked([ONE], "k"), journal.asked([ONE, TWO], None)
        journal.acknowledge(single, [7], replayed=False)
        journal.acknowledge(single, [7], replayed=True)
        journal.deed("cancel", 7, 202, "running", 3)
        journal.deed("look", 7, None, None, None)
        record = read(path)
    assert record.submissions == [
        Submission("k", [ONE], [Acknowledgement((7,), False), Acknowledgement((7,), True)]),
        Submission(None, [ONE, TWO], []),
    ]
    assert record.submissions[1].stamps == ["a", "b"]
    assert record.deeds == {7: [Deed("cancel", 202, "running", 3), Deed("look", None, None, None)]}
    assert batch != single


def test_each_job_is_counted_once_also_if_only_a_replay_was_answered(path: Path) -> None:
    with Journal(path) as journal:
        heard, unheard, open_ = (journal.asked([ONE, TWO], key) for key in ("h", "u", "o"))
        journal.acknowledge(heard, [1, 2], replayed=False)
        journal.acknowledge(heard, [1, 2], replayed=True)
        journal.acknowledge(unheard, [3, 4], replayed=True)
        assert journal.acknowledged == 4
    assert [len(one.acknowledgements) for one in read(path).submissions] == [2, 1, 0]
    assert open_ == 3


def test_a_journal_is_never_written_over(path: Path) -> None:
    Journal(path).close()
    with pytest.raises(FileExistsError):
        Journal(path)
