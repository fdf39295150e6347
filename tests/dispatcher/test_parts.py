"""The small parts of the dispatcher, each by itself."""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.clock import utc_now
from jobrunner.dispatcher import lines
from jobrunner.dispatcher.catalogue import describe
from jobrunner.dispatcher.handle import Handle
from jobrunner.dispatcher.joblog import TAIL_BYTES, JobLog
from jobrunner.dispatcher.notify import notify
from jobrunner.dispatcher.outbox import END_SECONDS, FLUSH_SECONDS, Outbox
from jobrunner.dispatcher.slots import Slot, Stop, counts, request_stop, requested_stop
from jobrunner.dispatcher.tickets import Code, Limits
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, EventKind, Report
from jobrunner.tasks.encoding import MOST_LEVELS, to_json
from tests.dispatcher.running import MODULES, is_gone
from tests.waiting import eventually

LIMITS = Limits(
    grace_seconds=1.0,
    max_jobs_per_process=10,
    max_result_bytes=1 << 20,
    max_partial_bytes=1 << 20,
    max_partials_bytes=1 << 30,
    max_log_bytes=1 << 20,
)


# -- lines -----------------------------------------------------------------------------------------


@given(st.lists(st.binary().map(lambda data: data.replace(b"\n", b"")), max_size=20), st.data())
def test_lines_come_out_whole_however_they_were_cut(sent: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in sent)
    receiving, sending = os.pipe()
    reader = lines.LineReader(receiving)
    found: list[bytes] = []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        os.write(sending, whole[:size])
        whole = whole[size:]
        found += reader.read()
    os.close(sending)
    with pytest.raises(EOFError):
        reader.read()
    os.close(receiving)
    assert found == sent


DEEP = 1_000_000  # levels, more than any version of Python lets a decoder go


@pytest.mark.parametrize("end", ["", "]", "]}"], ids=["unfinished", "list", "object"])
@pytest.mark.parametrize("kind", lines.Kind)
def test_a_line_too_deep_to_be_read_is_garbage(kind: lines.Kind, end: str) -> None:
    end = end.replace("]", "]" * DEEP)
    for start in ("", '{"zz":', '{"done":'):
        with pytest.raises(lines.GarbageError):
            lines.meaning(kind.value + f"{start}{'[' * DEEP}{end}".encode())


@pytest.mark.parametrize("kind", [lines.Kind.RESULT, lines.Kind.PARTIAL])
def test_a_line_as_deep_as_a_job_process_writes_can_be_read(kind: lines.Kind) -> None:
    text = to_json(json.loads('[{"a":' * (MOST_LEVELS // 2) + "1" + "}]" * (MOST_LEVELS // 2)), "result")
    assert bytes(lines.meaning(kind.value + text.encode())) == text.encode()


# -- the log ---------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=3000), max_size=12), st.integers(1, 4000))
def test_a_log_keeps_its_head_and_its_tail_and_counts_the_rest(pieces: list[bytes], room: int) -> None:
    log = JobLog(room)
    kept = ""
    for piece in pieces:
        log.feed(piece)
        kept += log.take()
    kept += log.finish()
    printed = b"".join(pieces)
    assert "\0" not in kept
    if len(printed) <= room:
        assert kept == printed.decode("utf-8", "replace").replace("\0", "\ufffd")
        return
    head, note, tail = kept.rpartition(" bytes left out]\n")
    assert note
    left_out = int(head.rsplit(" ", 1)[1])
    assert left_out == max(0, len(printed) - room - TAIL_BYTES)
    last = printed[-min(TAIL_BYTES, len(printed) - room) :]
    assert tail == last.decode("utf-8", "replace").replace("\0", "\ufffd")


def test_a_character_that_is_cut_in_two_is_read_as_one() -> None:
    log = JobLog(100)
    log.feed("\u00e9".encode()[:1])
    first = log.take()
    log.feed("\u00e9".encode()[1:])
    assert (first, log.take()) == ("", "\u00e9")
    assert JobLog(100).tail is None


# -- the outbox ------------------------------------------------------------------------------------


def test_an_outbox_collects_and_is_due_soon() -> None:
    sent: list[list[Report]] = []
    outbox = Outbox(sent.append, lambda: 0)
    assert outbox.due_at == float("inf")
    reports = [Report(number, 1, utc_now()) for number in range(3)]
    outbox.add(reports[0])
    first_due_at = outbox.due_at
    outbox.flush()
    outbox.add(reports[1])
    outbox.add(reports[2])
    assert first_due_at == pytest.approx(FLUSH_SECONDS)  # long past: nothing was sent before
    outbox.flush()
    outbox.flush()
    assert sent == [reports[:1], reports[1:]]
    assert outbox.due_at == float("inf")


def test_an_end_waits_for_those_after_it_but_not_for_long_and_holds_up_nothing_else() -> None:
    sent: list[list[Report]] = []
    outbox = Outbox(sent.append, lambda: 0)
    end = Report(1, 1, utc_now(), ended=Ended(Ending.SUCCEEDED, "1"))
    outbox.gathers = True
    outbox.add(end)
    assert outbox.due_at == pytest.approx(END_SECONDS)
    other = Report(2, 1, utc_now(), ((EventKind.PARTIAL, "1"),))
    outbox.add(other)
    assert outbox.due_at == pytest.approx(FLUSH_SECONDS)
    outbox.flush()
    assert sent == [[end, other]]
    outbox.gathers = False
    before = time.monotonic()
    outbox.add(end)
    assert outbox.due_at < before + FLUSH_SECONDS


def test_a_full_queue_is_tried_again_when_it_is_due_whatever_is_added() -> None:
    full: queue.Queue[list[Report]] = queue.Queue(maxsize=1)
    full.put([])
    outbox = Outbox(full.put_nowait, full.qsize)
    outbox.add(Report(1, 1, utc_now()))
    assert not outbox.flush()
    due_at = outbox.due_at
    outbox.add(Report(2, 1, utc_now()))
    assert outbox.due_at == due_at


def test_a_full_queue_blocks_nobody_and_loses_nothing() -> None:
    full: queue.Queue[list[Report]] = queue.Queue(maxsize=1)
    outbox = Outbox(full.put_nowait, full.qsize)
    reports = [Report(number, 1, utc_now()) for number in range(3)]
    outbox.add(reports[0])
    assert outbox.flush()
    outbox.add(reports[1])
    assert not outbox.flush()
    assert outbox.is_stuck
    assert outbox.due_at < float("inf")
    outbox.add(reports[2])
    assert full.get() == reports[:1]
    assert outbox.flush()
    assert full.get() == reports[1:]
    assert outbox.due_at == float("inf")


# -- the slots -------------------------------------------------------------------------------------


def test_a_stop_is_meant_for_the_ticket_in_hand_alone() -> None:
    slot = Slot()
    slot.serial = 7
    assert requested_stop(slot) is None
    stop = Stop(Ending.CANCELLED, 2.5)
    request_stop(slot, slot.serial, stop)
    assert requested_stop(slot) == stop
    slot.serial = 8
    assert requested_stop(slot) is None


def test_a_ticket_in_hand_counts_as_busy() -> None:
    slot = Slot()
    slot.busy_seconds = 5.0
    assert counts(slot).busy_seconds == 5.0
    slot.since, slot.serial = 1e-9, 1
    assert counts(slot).busy_seconds > 5.0


# -- the job process ---------------------------------------------------------------------------------


@pytest.fixture
def task_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(MODULES), *sys.path]))
    return tmp_path


@pytest.fixture
def process(task_path: Path) -> Iterator[Handle]:
    assert task_path.is_dir()
    made = Handle(Code(1, ("faults",)), LIMITS)
    yield made
    made.close()


def test_a_job_process_says_what_it_holds(process: Handle) -> None:
    greeting = process.greet()
    assert greeting.hello is not None
    assert "add" in {task["name"] for task in greeting.hello.tasks}
    assert greeting.fault is None
    death = process.kill()
    assert (death.signal, death.exit_code) == ("SIGKILL", None)
    assert death.cpu_seconds > 0
    assert death.peak_memory_bytes > 1 << 20


def test_a_job_process_ends_when_its_worker_hangs_up(task_path: Path) -> None:
    assert task_path.is_dir()
    process = Handle(Code(1, ("faults",)), LIMITS)
    process.greet()
    process.close()
    eventually(lambda: is_gone(process.pid))
    assert process.kill().exit_code == 0


def test_an_idle_job_process_ends_on_sigterm(process: Handle) -> None:
    process.greet()
    process.signal_group(signal.SIGTERM)
    eventually(lambda: is_gone(process.pid))
    assert process.kill().exit_code == 128 + signal.SIGTERM


def test_kill_children_takes_generation_after_generation() -> None:
    hang = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    start = f"subprocess.Popen([sys.executable, '-c', {hang!r}], start_new_session=True).wait()"
    parent = f"import subprocess, sys; {start}"
    code = (
        "import subprocess, sys\n"
        "from jobrunner import kernel\n"
        "from jobrunner.dispatcher.handle import kill_children\n"
        "kernel.adopt_orphans()\n"
        f"child = subprocess.Popen([sys.executable, '-c', {parent!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "(grandchild,) = kernel.children(child.pid)\n"
        "kill_children()\n"
        "print(kernel.started_ticks(child.pid), kernel.started_ticks(grandchild))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "None None\n"


# -- the catalogue ---------------------------------------------------------------------------------


def test_modules_that_fail_are_named_and_those_that_kill_are_left_out(task_path: Path) -> None:
    (task_path / "raising.py").write_text("print('before')\n1 / 0\n")
    (task_path / "killing.py").write_text(
        "import os\nprint('last words', flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    found = describe(Code(3, ("raising", "killing", "faults")), LIMITS)
    assert found.code == Code(3, ("raising", "faults"))
    assert "add" in {task["name"] for task in found.tasks}
    assert "ZeroDivisionError" in found.errors["raising"]
    assert found.errors["killing"].startswith("importing it ended the process: killed by SIGKILL")
    assert "last words" in found.errors["killing"]


def test_the_description_of_a_task_is_what_the_api_needs(task_path: Path) -> None:
    (task_path / "one.py").write_text(
        "from jobrunner import task\n@task(retries=2, memory_limit='1G')\ndef f(n: int = 3):\n    'Doc.'\n"
    )
    (described,) = describe(Code(1, ("one",)), LIMITS).tasks
    expected: dict[str, Any] = {"retries": 2, "memory_limit": 1 << 30, "crash_retries": 2}
    assert (described["name"], described["doc"]) == ("one.f", "Doc.")
    assert expected.items() <= described["options"].items()
    assert described["params"]["properties"]["n"] == {"type": "integer", "default": 3}


# -- systemd ---------------------------------------------------------------------------------------


def test_without_a_service_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is False
