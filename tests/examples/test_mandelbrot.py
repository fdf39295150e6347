import base64
import hashlib
import struct
import zlib
from typing import Any, NamedTuple

import pytest

from jobrunner import current_job
from jobrunner.examples.mandelbrot import mandelbrot
from tests.examples.running import Told, drained, result

Colour = tuple[int, int, int]


class Picture(NamedTuple):
    width: int
    height: int
    rows: list[list[Colour]]


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    assert png[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    found: list[tuple[bytes, bytes]] = []
    at = 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert int.from_bytes(png[at + 8 + length : at + 12 + length], "big") == zlib.crc32(
            data, zlib.crc32(kind)
        )
        found.append((kind, data))
        at += 12 + length
    assert at == len(png)
    return found


def decoded(png: bytes) -> Picture:
    kinds, data = zip(*chunks(png), strict=True)
    assert kinds == (b"IHDR", b"PLTE", b"IDAT", b"IEND")
    width, height, *kind = struct.unpack(">IIBBBBB", data[0])
    assert kind == [
        8,
        3,
        0,
        0,
        0,
    ]  # 8 bits, indexed colour, the one compression, filter method 0, no interlace
    assert len(data[1]) == 3 * 256
    colours: list[Colour] = [(data[1][i], data[1][i + 1], data[1][i + 2]) for i in range(0, 768, 3)]
    pixels = zlib.decompress(data[2])
    assert len(pixels) == height * (width + 1)
    lines = [pixels[i : i + width + 1] for i in range(0, len(pixels), width + 1)]
    assert {line[0] for line in lines} == {0}  # no line is filtered
    return Picture(width, height, [[colours[index] for index in line[1:]] for line in lines])


def picture(of: dict[str, Any]) -> Picture:
    return decoded(base64.b64decode(of["png"], validate=True))


def stays(x: float, y: float, limit: int) -> int:
    """Return for how many iterations the point (x, y) stays within 2, in real arithmetic."""
    a = b = 0.0
    for count in range(limit):
        a, b = a * a - b * b + x, 2 * a * b + y
        if a * a + b * b > 4.0:
            return count
    return limit


def test_the_counts_are_those_of_the_escape_time_formula() -> None:
    partials, _ = drained(mandelbrot(width=36, height=24, iterations=30))
    assert [partial["row"] for partial in partials] == list(range(24))
    for row, partial in enumerate(partials):
        y = (11.5 - row) * 0.1
        for column, count in enumerate(partial["iterations"]):
            assert count == stays(-0.75 + (column - 17.5) * 0.1, y, 30), (row, column)


def test_known_points_are_inside_or_outside() -> None:
    def count(real: float, imag: float) -> int:
        view = mandelbrot(width=1, height=1, iterations=500, real=real, imag=imag)
        return int(next(view)["iterations"][0])

    assert [count(0, 0), count(-1, 0), count(-2, 0), count(0, 1), count(0.25, 0)] == [500] * 5
    assert count(1, 0) == 2  # 1, 2, 5
    assert count(3, 0) == 0
    assert 0 < count(0.26, 0) < 500


def test_the_picture_holds_the_counts_row_by_row() -> None:
    partials, found = drained(mandelbrot(width=60, height=40, iterations=100, palette="grey"))
    seen = picture(found)
    assert (seen.width, seen.height) == (60, 40) == (found["width"], found["height"])
    for partial, row in zip(partials, seen.rows, strict=True):
        for count, colour in zip(partial["iterations"], row, strict=True):
            # By the square root of the share; black is kept for the points that stayed.
            shade = 0 if count == 100 else 1 + int((count / 100) ** 0.5 * 255)
            assert colour == (shade, shade, shade)


def test_the_set_is_its_own_mirror_image_about_the_real_axis() -> None:
    for height in (20, 21):
        partials, found = drained(mandelbrot(width=30, height=height, iterations=80))
        rows = [partial["iterations"] for partial in partials]
        assert rows == rows[::-1]
        assert picture(found).rows == picture(found).rows[::-1]


def test_the_digest_is_that_of_the_file() -> None:
    found = result(mandelbrot(width=10, height=10))
    assert hashlib.sha256(base64.b64decode(found["png"])).hexdigest() == found["sha256"]


def test_a_palette_changes_the_colours_alone() -> None:
    size = {"width": 20, "height": 10, "iterations": 50}
    fire, ice, grey = (picture(result(mandelbrot(**size, palette=name))) for name in ("fire", "ice", "grey"))
    assert [[colour[::-1] for colour in row] for row in fire.rows] == ice.rows
    black = [[colour == (0, 0, 0) for colour in row] for row in fire.rows]
    assert any(map(any, black))
    assert black == [[colour == (0, 0, 0) for colour in row] for row in grey.rows]


def test_zoom_shows_the_middle_of_the_picture_larger() -> None:
    wide, _ = drained(mandelbrot(width=30, height=30, real=-0.5, iterations=40))
    near, _ = drained(mandelbrot(width=10, height=10, real=-0.5, iterations=40, zoom=3))
    middle = [partial["iterations"][10:20] for partial in wide[10:20]]
    assert [partial["iterations"] for partial in near] == middle


def test_the_smallest_picture_is_one_pixel() -> None:
    assert picture(result(mandelbrot(width=1, height=1))).rows == [[(0, 0, 0)]]


def test_progress_is_told_in_rows(told: Told) -> None:
    result(mandelbrot(width=2, height=3))
    current_job().flush()
    assert [told[0], told[-1]] == [(1, 3, None), (3, 3, None)]


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"height": -1}, {"iterations": 0}, {"zoom": 0.0}, {"zoom": float("nan")}]
)
def test_a_picture_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least 1, and zoom above 0"):
        next(mandelbrot(**wrong))


def test_an_unknown_palette_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="palette must be one of fire, ice, grey, not 'pink'"):
        next(mandelbrot(palette="pink"))  # type: ignore[arg-type]
