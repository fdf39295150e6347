"""What a job failed of, as its future raises it."""

import pytest

from jobrunner import Executor
from jobrunner.client import JobFailedError
from jobrunner.executor.failures import exception
from tests.cli.running import Served
from tests.executor.tasks import dies, fails, power


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("ValueError", ValueError, "no such value"),
        ("empty", AssertionError, ""),
        ("KeyError", KeyError, "'a key'"),
        ("KeyError of an object", KeyError, "<class 'tests.executor.tasks.Place'>"),
        ("KeyError of an odd key", KeyError, "{{}}"),
        ("FileNotFoundError", FileNotFoundError, "[Errno 2] No such file or directory: '/no/such/file'"),
        ("rename", FileNotFoundError, "[Errno 2] No such file or directory: '/no/such/file' -> '/no/other'"),
        ("OSError", OSError, "only a text"),
        ("TimeoutError", TimeoutError, "took too long"),
    ],
)
def test_a_builtin_exception_comes_back_as_itself(
    executor: Executor, how: str, kind: type[Exception], said: str
) -> None:
    error = executor.submit(fails, how).exception(30)
    assert (type(error), str(error)) == (kind, said)
    assert error is not None
    assert 'File "' in str(error.__cause__)
    assert "in fails" in str(error.__cause__)


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        ("KeyError", "{{}}"),
        ("KeyError", "{[]: 1}"),
        ("KeyError", "0x" + "f" * 5000),  # a number that has no decimal text
        ("KeyError", "[" * 100_000),
        ("KeyError", "nul \0 and a line\n end"),
        ("OSError", f"[Errno {'9' * 5000}] unheard of"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: '\\N{nothing}'"),
    ],
)
def test_no_text_of_an_exception_is_too_odd(type_: str, message: str) -> None:
    made = exception(1, {"kind": "exception", "type": type_, "message": message, "traceback": None})
    assert (type(made).__name__, str(made)) == (type_, message)


def test_a_missing_file_can_still_be_told_by_its_number(executor: Executor) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        executor.submit(fails, "FileNotFoundError").result(30)
    assert (caught.value.errno, caught.value.filename) == (2, "/no/such/file")


@pytest.mark.parametrize(
    ("how", "type_"),
    [
        ("UnicodeDecodeError", "UnicodeDecodeError"),
        ("ExceptionGroup", "ExceptionGroup"),
        ("OwnError", "tests.executor.tasks.OwnError"),
        ("SystemExit", "SystemExit"),
    ],
)
def test_an_exception_that_cannot_be_made_here_is_named(executor: Executor, how: str, type_: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        executor.submit(fails, how).result(30)
    assert (caught.value.kind, caught.value.type) == ("exception", type_)
    assert type_ in str(caught.value)
    assert "in fails" in str(caught.value.__cause__)


def test_a_crash_fails_its_own_job_and_the_executor_goes_on(served: Served) -> None:
    with Executor(served.url, crash_retries=0) as executor:
        crashed, fine = executor.submit(dies), executor.submit(power, 2)
        with pytest.raises(JobFailedError, match="crashed") as caught:
            crashed.result(30)
        assert caught.value.error["exit_code"] == 3
        assert fine.result(30) == 4
        assert executor.submit(power, 3).result(30) == 9
