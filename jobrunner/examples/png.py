"""Writing a PNG with the standard library alone.

Format: W3C, "Portable Network Graphics (PNG) Specification"; ISO/IEC 15948.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_INDEXED_COLOUR: Final = 3


def indexed(width: int, rows: Sequence[bytes], palette: bytes) -> bytes:
    """Return a PNG file of 8 bits a pixel.

    Args:
        width: in pixels, as every row has.
        rows: from the top; each byte is the number of a colour.
        palette: red, green and blue of each colour, at most 256 of them.
    """
    header = struct.pack(">IIBBBBB", width, len(rows), 8, _INDEXED_COLOUR, 0, 0, 0)
    unfiltered = b"".join(b"\0" + row for row in rows)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(unfiltered, level=9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
