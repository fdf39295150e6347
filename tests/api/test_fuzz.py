"""schemathesis asks a live server all that its description allows or forbids; see `tests.api.fuzz` for more of it."""

from pathlib import Path

import pytest

from tests.api.fuzz import Outcome, target


@pytest.mark.parametrize(
    ("with_token", "options"),
    [
        (False, ("--phases=examples,coverage",)),
        (True, ("--phases=fuzzing,stateful", "--max-examples=5", "--generation-deterministic")),
    ],
)
def test_the_api_keeps_to_its_description(tmp_path: Path, with_token: bool, options: tuple[str, ...]) -> None:
    outcome = Outcome()
    with target(tmp_path, with_token=with_token) as asked:
        asked.run(outcome, "--seed=1", *options)
    assert not outcome.failures, outcome.said
    assert outcome.cases > 80
