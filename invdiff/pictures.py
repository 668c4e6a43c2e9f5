"""Small pictures for web pages: numbers as 8-bit PNGs in a colour scale, ready to stand inside an HTML text."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import InputError, ShapeError

__all__ = ["FIT", "GREY", "HEAT", "MISSING", "compact", "data_uri", "png", "scale_bar"]

GREY, HEAT, FIT = "gray", "magma", "viridis"
MISSING = 255  # the palette's entry for NaN, a bluish grey; values take the 255 others


def png(values: NDArray[Any], low: float, high: float, colours: str = GREY) -> bytes:
    """Return an image ``(H, W)`` as an indexed PNG: `low` and what is below is the scale's first colour.

    NaN has a colour of its own. `colours` is a name that matplotlib knows.

    Raises:
        ShapeError: the array is not 2-D. InputError: the scale is empty.
    """
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape:
        raise ShapeError(f"png got an array of shape {values.shape}; it expects (H, W)")
    if not high > low:
        raise InputError(f"png got a scale from {low} to {high}; it expects low < high")
    place = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low)
    index = np.clip(np.rint(place * 254), 0, 254).astype(np.uint8)
    index[np.isnan(values)] = MISSING
    rows = np.concatenate([np.zeros((len(index), 1), np.uint8), index], 1)  # filter 0 before each row
    header = struct.pack(">IIBBBBB", index.shape[1], index.shape[0], 8, 3, 0, 0, 0)
    parts = [
        (b"IHDR", header),
        (b"PLTE", _palette(colours)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def data_uri(values: NDArray[Any], low: float, high: float, colours: str = GREY) -> str:
    """Return `png` as the ``src`` of an ``<img>``."""
    return "data:image/png;base64," + base64.b64encode(png(values, low, high, colours)).decode("ascii")


def scale_bar(colours: str = GREY) -> str:
    """Return a scale from left to right as the ``src`` of an ``<img>``, 255 pixels wide and one high."""
    return data_uri(np.arange(255.0)[None], 0, 254, colours)


def compact(text: str, maps: Mapping[str, NDArray[Any]], unit: str, notes: Sequence[str]) -> str:
    """Return HTML of a text, the middle image of each map ``(..., H, W)`` (the first in grey) and notes."""
    figures: list[str] = []
    for name, values in maps.items():
        stack = np.abs(values).reshape(-1, *values.shape[-2:])
        image = stack[len(stack) // 2]
        image = image[:: 1 + image.shape[0] // 256, :: 1 + image.shape[1] // 256]
        high = float(np.nanquantile(image, 0.998)) or 1.0
        source = data_uri(image, 0, high, HEAT if figures else GREY)
        figures.append(
            f'<figure style="margin:0 1em 0 0"><img src="{source}" alt="{html.escape(name)}" style="height:192px;'
            f'image-rendering:pixelated"><figcaption>{html.escape(f"{name}, 0 to {high:.3g} {unit}")}</figcaption>'
            "</figure>"
        )
    row = f'<div style="display:flex">{"".join(figures)}</div>' if figures else ""
    said = "".join(f"<li>{html.escape(line)}</li>" for line in notes)
    return f"<code>{html.escape(text)}</code>{row}{f'<ul>{said}</ul>' if said else ''}"


@cache
def _palette(colours: str) -> bytes:
    import matplotlib

    table = np.asarray(matplotlib.colormaps[colours](np.linspace(0, 1, 255)))[:, :3]
    return (table * 255).round().astype(np.uint8).tobytes() + bytes((70, 80, 96))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
