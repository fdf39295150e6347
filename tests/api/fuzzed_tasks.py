"""Tasks for one who asks for everything: what they take and leave differs, and none takes long."""

import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import Meta

from jobrunner import current_job, task


@task(name="measure")
def measure(
    n: Annotated[int, Meta(ge=0, le=5)] = 1, unit: Literal["m", "s"] = "m", names: list[str] | None = None
) -> Any:
    """Print and yield a little."""
    for done in range(n):
        print(done, unit)  # noqa: T201  # its log
        current_job().progress(done, n, unit)
        yield {"done": done, "of": names}
    return {"n": n, "unit": unit}


@task(name="fail", retries=1)
def fail(message: str) -> None:
    """Raise."""
    raise ValueError(message)


@task(name="rest")
def rest(seconds: Annotated[float, Meta(ge=0, le=0.3)]) -> float:
    """Take a moment."""
    time.sleep(seconds)
    return seconds


@task(name="total")
def total(values: Any, scale: int = 1) -> int:
    """Count values."""
    return scale * sum(1 for _ in values) if isinstance(values, Iterable) else scale
