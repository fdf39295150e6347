"""The Mandelbrot set: watch the rows arrive, keep the picture."""

import base64
import hashlib
import math
from collections.abc import Callable, Generator
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from jobrunner import current_job, task
from jobrunner.examples import png

_PLANE_WIDTH: Final = 3.6  #: of the picture at zoom 1


@task(name="examples.mandelbrot")
def mandelbrot(
    *,
    width: Annotated[int, Meta(ge=1, le=2_000)] = 720,
    height: Annotated[int, Meta(ge=1, le=2_000)] = 480,
    iterations: Annotated[int, Meta(ge=1, le=100_000)] = 300,
    real: Annotated[float, Meta(ge=-4, le=4)] = -0.75,
    imag: Annotated[float, Meta(ge=-4, le=4)] = 0.0,
    zoom: Annotated[float, Meta(ge=0.1, le=1e13)] = 1.0,
    palette: Literal["fire", "ice", "grey"] = "fire",
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Draw the Mandelbrot set; one partial result a row, from the top.

    A partial result holds, for each point of the row, how many iterations kept it within 2 of the origin:
    `iterations` if all did.  The result holds the picture as a PNG in base64:

        curl -s .../jobs/1/result | jq -r .png | base64 -d > mandelbrot.png

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        iterations: after how many a point counts as one of the set.
        real: of the picture's centre.
        imag: of the picture's centre.
        zoom: at 1 the picture is 3.6 wide, at 10 a tenth of that.
        palette: the colours of the points outside; those inside are black.

    Raises:
        ValueError: a size, `iterations` or `zoom` is not positive, or no palette has this name.
    """
    if min(width, height, iterations) < 1 or not zoom > 0:
        raise ValueError("width, height and iterations must be at least 1, and zoom above 0")
    if palette not in _PALETTES:
        raise ValueError(f"palette must be one of {', '.join(_PALETTES)}, not {palette!r}")
    step = _PLANE_WIDTH / zoom / width
    pixels: list[bytes] = []
    for row in range(height):
        y = imag + ((height - 1) / 2 - row) * step
        xs = (real + (column - (width - 1) / 2) * step for column in range(width))
        counts = [_iterations_within_2(complex(x, y), iterations) for x in xs]
        pixels.append(bytes(_shade(count, iterations) for count in counts))
        current_job().progress(row + 1, height)
        yield {"row": row, "iterations": counts}
    colours = b"".join(bytes(_PALETTES[palette](shade)) for shade in range(256))
    picture = png.indexed(width, pixels, colours)
    return {
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(picture).hexdigest(),
        "png": base64.b64encode(picture).decode(),
    }


def _iterations_within_2(c: complex, limit: int) -> int:
    """Return how many times z -> z*z + c, from 0, stays within 2; what has left never comes back."""
    z = 0j
    for count in range(limit):
        z = z * z + c
        if abs(z) > 2.0:
            return count
    return limit


def _shade(count: int, limit: int) -> int:
    """Return 0 for a point of the set, else 1 to 255: the brighter, the longer it stayed."""
    # By the square root: most points leave early, and would share a few dark colours.
    return 0 if count == limit else 1 + int(255 * math.sqrt(count / limit))


def _fire(shade: int) -> tuple[int, int, int]:
    red, green, blue = 3 * shade, 3 * shade - 255, 3 * shade - 510
    return min(red, 255), min(max(green, 0), 255), max(blue, 0)


_PALETTES: Final[dict[str, Callable[[int], tuple[int, int, int]]]] = {
    "fire": _fire,
    "ice": lambda shade: _fire(shade)[::-1],
    "grey": lambda shade: (shade, shade, shade),
}
