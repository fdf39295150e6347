import math
from pathlib import Path

import pytest

from jobrunner.doctor import units
from jobrunner.doctor.findings import Grade, Said
from jobrunner.doctor.units import Unit, parsed, seconds
from jobrunner.settings import Settings
from tests.doctor.looking import grades, serious, warnings

NAME = "jobrunner-dispatcher.service"
EDIT = f"under [Service] by `systemctl edit {NAME}`"

# What systemd 252 prints of the unit in `deploy/`.
SHOWN = """\
Type=notify
Restart=always
TimeoutStopUSec=1min
WatchdogUSec=30s
OOMPolicy=continue
ExecStart={ path=/opt/jobrunner/bin/jobrunner ; argv[]=/opt/jobrunner/bin/jobrunner dispatcher --config CONFIG ; \
ignore_errors=no ; start_time=[Mon 2026-11-23 04:55:18 UTC] ; stop_time=[n/a] ; pid=204 ; code=(null) ; status=0/0 }
Environment=PYTHONSAFEPATH=1 PYTHONPATH=/usr/local/lib/jobrunner "A=b c" "D=e\\"f"
WorkingDirectory=/var/lib/jobrunner/files
User=jobrunner
KillMode=mixed
LoadState=loaded
LoadError=
"""
NOT_FOUND = """\
Type=
Restart=no
TimeoutStopUSec=1min 30s
WatchdogUSec=infinity
OOMPolicy=
KillMode=control-group
LoadState=not-found
LoadError=org.freedesktop.systemd1.NoSuchUnit "Unit nothere.service not found."
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    made = tmp_path / "jobrunner.toml"
    made.write_text('data = "/var/lib/jobrunner"\ndrain_seconds = 31\ngrace_seconds = 4\n', encoding="ascii")
    return made


def unit(config: Path, **changed: str) -> Unit:
    """The unit in `deploy/`, with some properties changed."""
    lines = [line for line in SHOWN.splitlines() if line.partition("=")[0] not in changed]
    lines += [f"{name}={value}" for name, value in changed.items()]
    return parsed(NAME, "\n".join(lines).replace("CONFIG", str(config)))


def told(config: Path, **changed: str) -> list[Said]:
    return list(units.told(unit(config, **changed), serves=True))


def test_the_unit_that_is_deployed_is_right(config: Path) -> None:
    ((grade, said),) = told(config)
    assert (grade, said) == (Grade.OK, f"{NAME} drains at a stop, and starts again after a crash")


@pytest.mark.parametrize(
    ("changed", "what", "line"),
    [
        ({"KillMode": "control-group"}, "KillMode=control-group, by which a stop ends", "KillMode=mixed"),
        ({"KillMode": "process"}, "KillMode=process, by which a stop leaves", "KillMode=mixed"),
        ({"KillMode": "none"}, "KillMode=none, by which a stop stops nothing", "KillMode=mixed"),
        ({"TimeoutStopUSec": "55s"}, "TimeoutStopSec=55s, but a drain may take 55 s", "TimeoutStopSec=60"),
        ({"TimeoutStopUSec": "0"}, "TimeoutStopSec=0, but", "TimeoutStopSec=60"),
        ({"OOMPolicy": "stop"}, "OOMPolicy=stop, by which one job", "OOMPolicy=continue"),
        ({"OOMPolicy": "kill"}, "OOMPolicy=kill, by which one job", "OOMPolicy=continue"),
        ({"Restart": "no"}, "Restart=no, by which", "Restart=always"),
        ({"Restart": "on-abnormal"}, "Restart=on-abnormal, by which", "Restart=always"),
    ],
)
def test_what_loses_jobs_is_serious_and_the_line_that_mends_it_is_named(
    config: Path, changed: dict[str, str], what: str, line: str
) -> None:
    (said,) = serious(told(config, **changed))
    assert said.startswith(f"{NAME} has {what}")
    assert said.endswith(f"; write {line} {EDIT}")


@pytest.mark.parametrize(
    "changed",
    [
        {"Restart": "on-failure"},
        {"Type": "simple"},
        {"WatchdogUSec": "0"},
        {"WatchdogUSec": "infinity"},
        {"WatchdogUSec": "2s"},
    ],
)
def test_what_only_makes_trouble_is_a_warning(config: Path, changed: dict[str, str]) -> None:
    assert grades(told(config, **changed)) == [Grade.WARNING]


@pytest.mark.parametrize("limit", ["56s", "1min 30s", "infinity", "2h"])
def test_a_stop_that_may_take_longer_than_a_drain_is_right(config: Path, limit: str) -> None:
    assert grades(told(config, TimeoutStopUSec=limit)) == [Grade.OK]


def test_all_that_is_wrong_is_told_at_once(config: Path) -> None:
    found = told(config, KillMode="control-group", OOMPolicy="stop", TimeoutStopUSec="20s", WatchdogUSec="0")
    assert grades(found) == [Grade.SERIOUS] * 3 + [Grade.WARNING]


def test_under_serve_systemd_cannot_hear_the_loop(config: Path) -> None:
    start = "{ path=/bin/jobrunner ; argv[]=/bin/jobrunner serve --drain-seconds=5 ; pid=1 }"
    assert grades(told(config, ExecStart=start, Type="simple", WatchdogUSec="0")) == [Grade.OK]


# -- which settings it runs with --------------------------------------------------------------------


def test_the_settings_of_a_unit_are_those_that_it_starts_with(config: Path) -> None:
    start = (
        f"{{ argv[]=/bin/jobrunner dispatcher --config={config} --grace-seconds 7 --tasks a --tasks b.c ; }}"
    )
    given = unit(config, ExecStart=start, Environment="JOBRUNNER_DRAIN_SECONDS=77").settings()
    assert (given.drain_seconds, given.grace_seconds, given.tasks) == (77.0, 7.0, ("a", "b.c"))
    assert given.data == Path("/var/lib/jobrunner")


def test_a_unit_without_a_settings_file_reads_the_one_where_it_runs(config: Path, tmp_path: Path) -> None:
    start = "{ argv[]=/bin/jobrunner dispatcher ; }"
    here = unit(config, ExecStart=start, WorkingDirectory=str(tmp_path))
    assert here.settings().drain_seconds == 31
    there = unit(config, ExecStart=start, WorkingDirectory="/")
    assert there.settings().drain_seconds == Settings().drain_seconds


def test_a_unit_serves_the_store_that_its_settings_name(config: Path, tmp_path: Path) -> None:
    assert unit(config).serves(Path("/var/lib/jobrunner/jobrunner.db"))
    assert not unit(config).serves(tmp_path / "jobrunner.db")
    start = "{ argv[]=/bin/jobrunner dispatcher --data relative ; }"
    relative = unit(config, ExecStart=start, WorkingDirectory=str(tmp_path))
    assert relative.serves(tmp_path / "relative" / "jobrunner.db")
    (said,) = units.told(relative, serves=False)
    assert "it works on another store" in said[1]


def test_a_unit_whose_settings_are_wrong_cannot_start(config: Path) -> None:
    config.write_text("workers = 0", encoding="ascii")
    (said,) = serious(told(config))
    assert said.startswith(f"{NAME} cannot start: workers = 0")


def test_the_environment_of_a_unit_is_read_with_its_quotes(config: Path) -> None:
    assert unit(config).environ == {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": "/usr/local/lib/jobrunner",
        "A": "b c",
        "D": 'e"f',
    }


# -- what systemd knows ----------------------------------------------------------------------------------


def test_without_a_unit_there_is_nothing_to_judge(config: Path) -> None:
    assert grades(units.told(parsed(NAME, NOT_FOUND), serves=False)) == [Grade.OK]
    assert grades(units.told(Unit(NAME, {}), serves=False)) == [Grade.OK]


def test_a_unit_that_cannot_be_loaded_is_serious(config: Path) -> None:
    error = 'org.freedesktop.systemd1.UnitMasked "Unit it.service is masked."'
    (said,) = serious(told(config, LoadState="masked", LoadError=error))
    assert said == f"{NAME} cannot be started: Unit it.service is masked. systemctl cat {NAME}"


def test_a_systemd_that_does_not_answer_is_a_warning() -> None:
    (said,) = warnings(units.told(Unit(NAME, {}, "Failed to connect to bus"), serves=False))
    assert said == f"systemd does not tell of {NAME}: Failed to connect to bus; run this as root"


def test_whoever_is_asked_here_an_answer_comes() -> None:
    assert units.ask("no-such-unit-at-all.service").properties == {}


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("0", 0),
        ("30s", 30),
        ("1min 30s", 90),
        ("1h 1min 1.500s", 3661.5),
        ("2d 3h", 183_600),
        ("1w", 604_800),
        ("1month", 2_629_800),
        ("500ms", 0.5),
        ("10us", 1e-5),
        ("infinity", math.inf),
    ],
)
def test_a_time_span_is_read_as_systemd_prints_it(span: str, expected: float) -> None:
    assert seconds(span) == pytest.approx(expected)


def test_what_is_no_time_span_is_refused() -> None:
    with pytest.raises(ValueError, match="where it should name a time span"):
        seconds("soon")
