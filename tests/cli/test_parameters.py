"""KEY=VALUE arguments: what they mean, and which are refused."""

import io
import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.cli.parameters import as_value, labels, parsed

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
_key = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="="), min_size=1)
_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(_key, _json, max_size=5), st.booleans())
def test_every_json_value_comes_through_as_it_is(params: dict[str, Any], ascii_only: bool) -> None:
    arguments = [f"{key}={json.dumps(value, ensure_ascii=ascii_only)}" for key, value in params.items()]
    try:
        assert parsed(arguments) == params
    except click.BadParameter as error:  # a lone surrogate cannot be written as UTF-8
        assert not ascii_only and "is not UTF-8" in error.message  # noqa: PT017, PT018


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


@given(_key, _text.filter(lambda text: not text.startswith("@") and not _is_json(text)))
def test_what_is_no_json_comes_through_as_text(key: str, text: str) -> None:
    assert parsed([f"{key}={text}"]) == {key: text}


@given(_key, _text)
def test_any_text_comes_through_when_it_is_written_as_json(key: str, text: str) -> None:
    assert parsed([f"{key}={json.dumps(text)}"]) == {key: text}


@given(st.dictionaries(_key, _text, max_size=5))
def test_a_label_is_always_a_text(given_labels: dict[str, str]) -> None:
    assert labels([f"{key}={value}" for key, value in given_labels.items()]) == given_labels


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "[NaN]", "01", "1,5", "True", "", "[" * 100_000]
)
def test_what_only_looks_like_json_is_text(text: str) -> None:
    assert as_value(text) == text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["n"], "'n' is not KEY=VALUE"),
        (["=5"], "'=5' is not KEY=VALUE"),
        (["n=1", "m=2", "n=3"], "n is given twice"),
        (["n=@nowhere.json"], "n: 'nowhere.json' cannot be read"),
        (["n=@"], "n: '' cannot be read"),
        (["n=\udcff"], "is not UTF-8"),
    ],
)
def test_a_wrong_argument_is_named_with_the_reason(
    arguments: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.BadParameter) as caught:
        parsed(arguments)
    assert why in caught.value.message


@pytest.mark.parametrize(("content", "value"), [('{"a": [1]}\n', {"a": [1]}), ("a\nb\n", "a\nb\n")])
def test_a_value_may_be_in_a_file_as_json_or_as_text(content: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "value").write_text(content, encoding="utf-8")
    assert parsed([f"x=@{tmp_path}/value"]) == {"x": value}


def test_a_value_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("[1, 2]"))
    assert parsed(["x=@-"]) == {"x": [1, 2]}
