"""Training a classifier: one epoch, one partial result.

It needs the optional extra: `pip install 'jobrunner[examples]'`.
"""

from collections.abc import Generator
from typing import Annotated, Any

from msgspec import Meta

from jobrunner import current_job, task


@task(name="examples.train_digits")
def train_digits(
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 100,
    hidden: Annotated[int, Meta(ge=1, le=4_096)] = 256,
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.001,
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0,
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Teach a small neural network to read handwritten digits; one partial result an epoch.

    The data are the 1,797 images of 8 by 8 pixels that come with scikit-learn; a quarter of them is held
    out, and every accuracy is the share of these that the network reads correctly.

    Args:
        epochs: how many times to go through the training data.
        hidden: units of the hidden layer.
        learning_rate: the step size of the optimiser (Adam).
        seed: of the split, the first weights and the shuffling; the same seed gives the same network.

    Raises:
        ValueError: `epochs` or `hidden` is below 1, or `learning_rate` is not above 0.
        ModuleNotFoundError: scikit-learn is not installed.
    """
    if epochs < 1 or hidden < 1 or not learning_rate > 0:
        raise ValueError("epochs and hidden must be at least 1, and learning_rate above 0")
    try:
        # Here and not above: an optional extra, and the slowest import by far.
        from sklearn.datasets import load_digits  # noqa: PLC0415
        from sklearn.model_selection import train_test_split  # noqa: PLC0415
        from sklearn.neural_network import MLPClassifier  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "examples.train_digits needs scikit-learn: pip install 'jobrunner[examples]'"
        ) from error

    images, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16.0, digits, test_size=0.25, stratify=digits, random_state=seed
    )
    print(f"training on {len(train_y)} images, testing on {len(test_y)}")  # noqa: T201 - the job's log
    model = MLPClassifier((hidden,), learning_rate_init=learning_rate, random_state=seed)
    accuracy = 0.0
    for epoch in range(1, epochs + 1):
        model.partial_fit(train_x, train_y, classes=range(10))
        accuracy = model.score(test_x, test_y)
        current_job().progress(epoch, epochs, f"epoch {epoch}")
        yield {"epoch": epoch, "loss": model.loss_, "accuracy": accuracy}
    return {"accuracy": accuracy, "loss": model.loss_, "trained_on": len(train_y), "tested_on": len(test_y)}
