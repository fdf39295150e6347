"""schemathesis asks a live server all that its description allows or forbids; see `tests.api.fuzz` for more of it."""

from pathlib import Path

from tests.api.fuzz import Outcome, Target, new_token, server


def test_the_api_keeps_to_its_description(tmp_path: Path) -> None:
    outcome = Outcome()
    with server(tmp_path) as served:
        with Target(tmp_path, served.url) as asked:
            asked.run(outcome, "--seed=1", "--phases=examples,coverage")
        with Target(tmp_path, served.url, new_token(served)) as asked:
            asked.run(outcome, "--phases=fuzzing,stateful", "--max-examples=5", "--generation-deterministic")
    assert not outcome.failures, outcome.said
    assert outcome.cases > 1000
