"""Pictures of a reconstruction, side by side, written as one PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from invdiff.errors import ShapeError
from invdiff.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["panel"]

Images = Mapping[str, ArrayLike]

_QUANTILE = 0.998  # of the grey values is white: a few bright pixels would darken the rest


def panel(
    images: Images,
    path: str | Path,
    *,
    spread: Images | None = None,
    residual: Images | None = None,
    scores: Mapping[str, float] | None = None,
    coords: Mapping[str, Any] | None = None,
    unit: str = "",
    sinogram: bool = False,
    heading: str = "",
    columns: int = 4,
) -> Path:
    """Draw images in a grid, with axes, colour bars and titles, and write them as PNG, the whole file at once.

    Args:
        images: 2-D arrays ``(H, W)`` by title, in one grey scale from 0; of complex ones the magnitude. Where values
            exceed the scale, its bar ends in an arrow.
        path: the PNG file.
        spread: non-negative arrays ``(H, W)`` (standard deviation, error) in one colour scale of their own.
        residual: arrays over k-space, NaN where nothing was measured, in units of the noise's standard deviation.
        sinogram: the residuals are over views and channels instead.
        scores: PSNR in dB by title of an image, added to it.
        coords: of x as a `Measurement` has them; with "y" and "x" in mm the axes are in mm, in "pixel" from the
            axis of rotation, else rows and columns are counted.
        unit: of the images, for the colour bars.
        heading: above all.
        columns: tiles in a row.

    Raises:
        ShapeError: an array is not 2-D. FileError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    what = "magnitude" if any(np.iscomplexobj(v) for v in images.values()) or not unit else "value"
    groups = [
        ({name: np.abs(_flat(name, v)) for name, v in images.items()}, "gray", _unit(what, unit)),
        ({name: _flat(name, v) for name, v in (spread or {}).items()}, "magma", _unit("", unit)),
        ({name: _flat(name, v) for name, v in (residual or {}).items()}, "viridis", "noise std"),
    ]
    count = sum(len(group) for group, _, _ in groups)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    shape = next(iter(groups[0][0].values())).shape
    height = 2.6 * min(2.0, max(0.5, shape[0] / shape[1])) + 0.75
    figure = Figure(figsize=(3.9 * columns, height * rows + 0.4), layout="constrained", dpi=110)
    tiles = iter(figure.subplots(rows, columns, squeeze=False).flat)
    for k, (group, colours, label) in enumerate(groups):
        # Images are seen in the scale of the first, usually the truth; spreads in one that shows all of them.
        top = _top(list(group.values())[: 1 if k == 0 else None])
        for name, values in group.items():
            title = f"{name}, {scores[name]:.1f} dB" if scores and name in scores else name
            over_data = _sinogram if sinogram else _k_space
            place = _place(coords or {}, values.shape) if k < 2 else over_data(values.shape)
            _tile(figure, next(tiles), values, title, top, colours, label, place)
    for empty in tiles:
        empty.set_axis_off()
    if heading:
        figure.suptitle(heading)
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return Path(path)


def _tile(
    figure: Figure,
    axes: Axes,
    values: NDArray[Any],
    title: str,
    top: float,
    colours: str,
    label: str,
    place: tuple[tuple[float, float, float, float], str, str],
) -> None:
    extent, x_label, y_label = place
    picture = axes.imshow(
        values, cmap=colours, vmin=0, vmax=top, extent=extent, interpolation="nearest",
        aspect="auto" if y_label == "view" else "equal",
    )  # fmt: skip
    axes.set_facecolor("0.25")  # shows through where values are NaN
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.title.set_fontsize(10)
    axes.tick_params(labelsize=7)
    beyond = bool((values[np.isfinite(values)] > top).any())
    bar = figure.colorbar(picture, ax=axes, extend="max" if beyond else "neither", fraction=0.05, pad=0.02)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _top(group: list[NDArray[Any]]) -> float:
    """The end of a scale: the largest of the images' high quantiles; 1 where there is nothing to see."""
    finite = [v[np.isfinite(v)] for v in group]
    tops = [float(np.quantile(v, _QUANTILE)) or float(v.max()) for v in finite if v.size]
    return max(tops, default=0.0) or 1.0


def _place(coords: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[tuple[float, float, float, float], str, str]:
    """Extent (left, right, bottom, top) and the axes' labels."""
    ends: dict[str, tuple[float, float]] = {}
    unit = ""
    for name, n in zip(("y", "x"), shape, strict=True):
        if name not in coords or n < 2:
            return (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5), "column", "row"
        dims, values, *rest = coords[name]
        values = np.asarray(values, float)
        unit = rest[0].get("units") if rest else "mm"
        if tuple(dims) != (name,) or values.shape != (n,) or unit not in ("mm", "pixel"):
            return (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5), "column", "row"
        half = (values[1] - values[0]) / 2
        ends[name] = (float(values[0] - half), float(values[-1] + half))
    return (*ends["x"], *reversed(ends["y"])), f"x ({unit})", f"y ({unit})"  # type: ignore[return-value]


def _k_space(shape: tuple[int, ...]) -> tuple[tuple[float, float, float, float], str, str]:
    rows, columns = shape
    left, top = -(columns // 2) - 0.5, -(rows // 2) - 0.5
    return (left, left + columns, top + rows, top), "k_x", "k_y"


def _sinogram(shape: tuple[int, ...]) -> tuple[tuple[float, float, float, float], str, str]:
    return (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5), "channel", "view"


def _unit(name: str, unit: str) -> str:
    return f"{name} ({unit})".strip() if unit else name


def _flat(name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"panel got {name!r} of shape {array.shape}; it expects images (H, W)")
    return array
