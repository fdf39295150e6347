from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from jobrunner import current_job
from jobrunner.examples.train_digits import train_digits
from tests.examples.running import Told, drained, result


def trained_by_hand(epochs: int, hidden: int, seed: int) -> list[float]:
    """Return the share of held-out images that are read correctly after each epoch."""
    digits = load_digits()
    split = train_test_split(
        digits.data / 16, digits.target, test_size=0.25, stratify=digits.target, random_state=seed
    )
    train_x, test_x, train_y, test_y = split
    model = MLPClassifier(hidden_layer_sizes=(hidden,), learning_rate_init=0.001, random_state=seed)
    shares: list[float] = []
    for _ in range(epochs):
        model.partial_fit(train_x, train_y, classes=np.unique(digits.target))
        shares.append(float(np.mean(model.predict(test_x) == test_y)))
    return shares


def test_the_network_reads_more_than_nine_of_ten_images_that_it_never_saw() -> None:
    found = result(train_digits(epochs=30))
    assert found["accuracy"] > 0.9
    assert (found["trained_on"], found["tested_on"]) == (1347, 450)


def test_the_accuracies_are_those_of_the_same_training_by_hand() -> None:
    partials, found = drained(train_digits(epochs=12, hidden=64, seed=5))
    assert [partial["accuracy"] for partial in partials] == pytest.approx(trained_by_hand(12, 64, 5))
    assert found["accuracy"] == partials[-1]["accuracy"]


def test_each_epoch_gives_one_partial_result_and_the_loss_falls() -> None:
    partials, found = drained(train_digits(epochs=10))
    assert [partial["epoch"] for partial in partials] == list(range(1, 11))
    losses = [partial["loss"] for partial in partials]
    assert losses == sorted(losses, reverse=True)
    assert found["loss"] == losses[-1]


def test_the_same_seed_gives_the_same_network() -> None:
    def losses(seed: int) -> list[float]:
        return [partial["loss"] for partial in train_digits(epochs=3, seed=seed)]

    assert losses(7) == pytest.approx(losses(7))
    assert losses(7) != pytest.approx(losses(8))


def test_what_it_prints_says_how_the_data_were_split(capsys: pytest.CaptureFixture[str]) -> None:
    result(train_digits(epochs=1, hidden=4))
    assert capsys.readouterr().out == "training on 1347 images, testing on 450\n"


def test_progress_is_told_in_epochs(told: Told) -> None:
    result(train_digits(epochs=2, hidden=4))
    current_job().flush()
    assert [told[0], told[-1]] == [(1, 2, "epoch 1"), (2, 2, "epoch 2")]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"hidden": 0}, {"learning_rate": 0.0}])
def test_a_training_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least 1, and learning_rate above 0"):
        next(train_digits(**wrong))
