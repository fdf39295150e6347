"""Settings: which source wins, what is allowed, and how a wrong value is named."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import sizes
from jobrunner.errors import SettingError
from jobrunner.settings import documented, load

NAMES = [name for name, *_ in documented()]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _file(text: str, name: str = "other.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


# -- who wins ----------------------------------------------------------------------------------


def test_without_any_source_every_setting_has_its_default() -> None:
    chosen = load({}, {})
    assert [(field.name, getattr(chosen, field.name)) for field in fields(chosen)] == [
        (name, default) for name, default, *_ in documented()
    ]


def test_a_flag_wins_over_the_environment_which_wins_over_the_file_which_wins_over_the_default() -> None:
    file = _file("port = 1\nworkers = 1\nmax_queued = 1")
    environ = {"JOBRUNNER_PORT": "2", "JOBRUNNER_WORKERS": "2"}
    chosen = load({"port": "3"}, environ, file)
    assert (chosen.port, chosen.workers, chosen.max_queued, chosen.api_workers) == (3, 2, 1, 1)


_SOURCES = ("file", "environment", "flag")


@given(st.sets(st.sampled_from(_SOURCES)))
def test_of_any_set_of_sources_the_strongest_decides(given_by: set[str]) -> None:
    ports = {source: 1000 + index for index, source in enumerate(_SOURCES)}
    file = _file(f"port = {ports['file']}" if "file" in given_by else "")
    environ = {"JOBRUNNER_PORT": str(ports["environment"])} if "environment" in given_by else {}
    chosen = load({"port": ports["flag"]} if "flag" in given_by else {}, environ, file)
    strongest = next((ports[source] for source in reversed(_SOURCES) if source in given_by), 8000)
    assert chosen.port == strongest


def test_a_flag_that_was_not_given_leaves_the_setting_alone() -> None:
    assert load({"port": None, "tasks": ()}, {"JOBRUNNER_PORT": "5", "JOBRUNNER_TASKS": "mine"}) == load(
        {}, {"JOBRUNNER_PORT": "5", "JOBRUNNER_TASKS": "mine"}
    )


def test_the_file_of_the_working_directory_is_read_unless_another_is_named() -> None:
    _file("port = 7", "jobrunner.toml")
    assert load({}, {}).port == 7
    assert load({}, {}, _file("")).port == 8000


def test_variables_that_are_no_settings_but_known_are_passed_over() -> None:
    environ = {"JOBRUNNER_URL": "http://elsewhere:1", "JOBRUNNER_CONFIG": "x.toml", "PATH": "/bin"}
    assert load({}, environ) == load({}, {})


def test_the_environment_is_that_of_the_process_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOBRUNNER_PORT", "9")
    assert load({}).port == 9


# -- what is refused, and in which words ---------------------------------------------------------

WRONG: list[tuple[str, Any, str]] = [
    ("data", "", "a path"),
    ("data", "~nobody-of-this-name/jobs", "a path"),
    ("database_url", "", "a text that is not empty"),
    ("tasks", "mytasks.py", "importable module names"),
    ("tasks", "my/tasks", "importable module names"),
    ("tasks", "mytasks,,other", "importable module names"),
    ("workers", "0", "a whole number from 1 to 1024"),
    ("workers", "1025", "a whole number from 1 to 1024"),
    ("workers", "two", "a whole number from 1 to 1024"),
    ("host", "", "a text that is not empty"),
    ("port", "65536", "a whole number from 0 to 65535"),
    ("port", "-1", "a whole number from 0 to 65535"),
    ("port", "80.5", "a whole number from 0 to 65535"),
    ("api_workers", "0", "a whole number from 1 to 64"),
    ("api_threads", "1", "a whole number from 2 to 512"),
    ("max_waiting", "-1", "a whole number from 0 to 4096"),
    ("max_wait", "3601", "a number of seconds from 0 to 3600"),
    ("grace_seconds", "-1", "a number of seconds from 0 to 3600"),
    ("grace_seconds", "nan", "a number of seconds from 0 to 3600"),
    ("drain_seconds", "inf", "a number of seconds from 0 to 86400"),
    ("lease_seconds", "1", "a number of seconds from 2 to 3600"),
    ("max_jobs_per_process", "0", "a whole number from 1"),
    ("max_queued", "", "a whole number from 1"),
    ("max_batch", "1e3", "a whole number from 1"),
    ("max_items", "0", "a whole number from 1"),
    ("max_body_bytes", "1000", "a size such as 64K, 16M or 2G, at least 1024 bytes"),
    ("max_params_bytes", "16X", "a size such as 64K, 16M or 2G, at least 16 bytes"),
    ("max_result_bytes", "-1", "a size such as 64K, 16M or 2G, at least 16 bytes"),
    ("max_partial_bytes", "15", "a size such as 64K, 16M or 2G, at least 16 bytes"),
    ("max_partials_bytes", "0", "a size such as 64K, 16M or 2G, at least 16 bytes"),
    ("max_log_bytes", "1.5M", "a size such as 64K, 16M or 2G, at least 1024 bytes"),
    ("keep_succeeded", "-1", "a duration such as 90s, 12h or 7d, or forever"),
    ("keep_succeeded", "nan", "a duration such as 90s, 12h or 7d, or forever"),
    ("keep_failed", "a week", "a duration such as 90s, 12h or 7d, or forever"),
    ("log_level", "loud", "one of debug, info, warning, error"),
]


def test_every_setting_has_a_wrong_value_to_try() -> None:
    assert {name for name, *_ in WRONG} == set(NAMES)


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_names_itself_its_source_and_what_is_allowed(
    name: str, value: str, allowed: str
) -> None:
    in_file = _file(f'{name} = "{value}"')
    flag, variable = f"--{name.replace('_', '-')}", f"JOBRUNNER_{name.upper()}"
    sources: list[tuple[str, dict[str, str], dict[str, str], Path]] = [
        (f"flag {flag}", {name: value}, {}, _file("", "empty.toml")),
        (f"environment {variable}", {}, {variable: value}, _file("", "empty.toml")),
        ("other.toml", {}, {}, in_file),
    ]
    for source, flags, environ, file in sources:
        with pytest.raises(SettingError) as caught:
            load(flags, environ, file)
        assert str(caught.value).startswith(f"{name} = {value!r} (from {source}): must be ")
        assert allowed in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["true", "[]", "[[]]", "{}", "{x = 1}", "2026-11-23", "[1]"])
def test_a_file_with_a_value_of_another_type_is_refused_as_clearly(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} = .* \\(from other.toml\\): must be "):
        load({}, {}, _file(f"{name} = {value}"))


def test_a_wrong_value_is_refused_even_where_a_stronger_source_has_a_right_one() -> None:
    with pytest.raises(SettingError, match="from environment JOBRUNNER_PORT"):
        load({"port": 1}, {"JOBRUNNER_PORT": "x"})


@pytest.mark.parametrize("source", _SOURCES)
def test_a_name_that_is_no_setting_is_refused_with_the_list_of_those_that_are(source: str) -> None:
    file = _file("prot = 1" if source == "file" else "")
    environ = {"JOBRUNNER_PROT": "1"} if source == "environment" else {}
    with pytest.raises(SettingError, match=r"^prot = '?1'? \(from .*must be a setting: data, database_url, "):
        load({"prot": "1"} if source == "flag" else {}, environ, file)


@pytest.mark.parametrize("text", ["port =", "port = 1\nport = 2", "\udcff"])
def test_a_file_that_is_no_toml_is_refused_with_the_reason(text: str) -> None:
    Path("other.toml").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(SettingError, match=r"config = 'other.toml' .* a readable TOML file \(.+\)"):
        load({}, {}, Path("other.toml"))


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(SettingError, match=r"config = 'nowhere.toml' .*No such file"):
        load({}, {}, Path("nowhere.toml"))


# -- what values mean ----------------------------------------------------------------------------


def test_modules_are_a_list_in_a_file_and_a_text_with_commas_elsewhere() -> None:
    wanted = ("mytasks", "mypackage.tasks")
    assert load({}, {}, _file('tasks = ["mytasks", "mypackage.tasks"]')).tasks == wanted
    assert load({}, {"JOBRUNNER_TASKS": "mytasks, mypackage.tasks"}).tasks == wanted
    assert load({"tasks": "mytasks,mypackage.tasks"}, {}).tasks == wanted


def test_the_data_directory_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load({"data": "~/jobs"}, {}).data == Path("/home/somebody/jobs")


def test_the_store_is_in_the_data_directory_unless_its_url_is_given(tmp_path: Path) -> None:
    assert load({"data": "here"}, {}).url == f"sqlite:///{tmp_path}/here/jobrunner.db"
    assert load({"data": "here", "database_url": "sqlite:////x.db"}, {}).url == "sqlite:////x.db"


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@given(
    st.integers(0, 10**12),
    st.sampled_from(sorted(_UNITS)),
    st.sampled_from(["", "B", "iB"]),
    st.sampled_from(["", " ", "  "]),
    st.booleans(),
)
def test_a_size_is_its_number_times_a_power_of_1024(
    number: int, unit: str, suffix: str, gap: str, lower: bool
) -> None:
    text = f"{number}{gap}{unit}{suffix}"
    assert sizes.in_bytes(text.lower() if lower else text) == number * _UNITS[unit]


@given(st.integers(1024, 2**60))
def test_a_size_setting_takes_whole_numbers_from_a_file(number: int) -> None:
    assert load({}, {}, _file(f"max_body_bytes = {number}")).max_body_bytes == number


@given(st.one_of(st.text(), st.floats(), st.booleans(), st.none(), st.binary(), st.lists(st.integers())))
def test_whatever_is_no_size_is_refused_with_a_value_error(value: Any) -> None:
    try:
        assert sizes.in_bytes(value) >= 0
    except ValueError:
        return
    assert isinstance(value, str)
    assert value.strip()[0].isdecimal()


@given(st.integers(0, 2**50))
def test_a_size_in_words_is_right_to_a_tenth_of_its_unit(count: int) -> None:
    number, unit = sizes.in_words(count).split()
    unit_bytes = 1 if unit == "bytes" else _UNITS[unit[0]]
    assert abs(float(number) * unit_bytes - count) <= 0.0501 * unit_bytes


@given(st.dictionaries(st.sampled_from(NAMES), st.text(), max_size=5))
def test_settings_are_either_read_or_refused_with_a_setting_error(values: dict[str, str]) -> None:
    try:
        load(values, {})
    except SettingError as error:
        assert str(error).split(" = ")[0] in values  # noqa: PT017 - either outcome is right
