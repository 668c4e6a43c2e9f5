"""What a report shows, as plain arrays: one image a slice of mean, draws, maps of spread and of the data's misfit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.volume import from_attributes
from invdiff.errors import InputError
from invdiff.posterior import Posterior

__all__ = ["Images", "images_of", "thinned"]

Stack = NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """Images ``(slices, H, W)`` of each kind, and what they are called.

    Attributes:
        mean: magnitude where x is complex. draws: ``(draws, slices, H, W)``.
        spread: by title, all in the unit of x. unit: of x.
        labels: of the slices shown. labels_all: of all. chi2: mean squared misfit of each of all.
        misfit: rms of ``(y - A x) / sigma`` by slice (or one for all), NaN where nothing was measured. misfit_values:
            of all slices, without NaN. misfit_axes: what its axes are.
        aspect: width over height of an image in the world.
        left_out: sentences about what is not shown.
    """

    mean: Stack
    draws: Stack
    spread: dict[str, Stack]
    unit: str
    labels: list[str]
    labels_all: list[str]
    misfit: Stack | None = None
    misfit_values: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    misfit_axes: str = ""
    chi2: list[float] = field(default_factory=list)
    aspect: float = 1.0
    left_out: list[str] = field(default_factory=list)


def images_of(posterior: Posterior) -> Images:
    """Take the images from a posterior. Raises InputError where its draws are none."""
    draws = posterior.draws
    if draws.dims[-2:] != ("y", "x"):
        raise InputError(f"a report shows images; the draws have dimensions {', '.join(map(str, draws.dims))}")
    place = from_attributes(posterior.dataset.attrs)
    unit = str(draws.attrs.get("units", "" if place is None else place.units))
    spread = {}
    if draws.sizes["draw"] > 1:
        spread["standard deviation"] = _flat(posterior.std().values)
        low, high = posterior.interval(0.9).values
        spread["half width of the 90 % interval"] = _flat((high - low) / 2)
    if "trajectory_variance" in posterior.dataset:
        variance = posterior.dataset["trajectory_variance"]
        variance = variance.mean("draw") if "draw" in variance.dims else variance
        spread["wavering of the last steps (hallucination map)"] = _flat(np.sqrt(variance.values))
    labels = _labels(posterior)
    images = Images(
        _flat(_real(posterior.mean().values)), np.stack([_flat(_real(d)) for d in draws.values]), spread, unit, labels,
        labels, aspect=_aspect(posterior),
    )  # fmt: skip
    return _with_misfit(images, posterior)


def thinned(images: Images, most: int) -> Images:
    """Leave out draws beyond 8, then halve pixels above 192 a side, then slices, until about `most` bytes are left."""
    notes = []
    if len(images.draws) > 8:
        notes.append(f"Of {len(images.draws)} draws the first 8 are shown.")
        images = replace(images, draws=images.draws[:8])
    while _bytes(images) > most and min(images.mean.shape[1:]) >= 384:
        images = _halved(images)
        notes = [n for n in notes if "pixels" not in n]
        notes.append(
            f"Images are shown with {images.mean.shape[1]} x {images.mean.shape[2]} pixels, means of neighbours."
        )
    total = len(images.mean)
    fit = max(1, int(most / max(1, _bytes(images)) * total))
    if fit < total:
        keep = np.unique(np.linspace(0, total - 1, fit).round().astype(int))
        each = images.misfit is not None and len(images.misfit) == total
        images = replace(
            images, mean=images.mean[keep], draws=images.draws[:, keep], labels=[images.labels[k] for k in keep],
            spread={name: stack[keep] for name, stack in images.spread.items()},
            misfit=images.misfit[keep] if each and images.misfit is not None else images.misfit,
        )  # fmt: skip
        notes.append(f"Of {total} slices {len(keep)} are shown, evenly spaced.")
    return replace(images, left_out=notes)


def _bytes(images: Images) -> int:
    """Size of the PNGs in base64: noise leaves about 7 of 8 bits a pixel."""
    kinds = 1 + len(images.draws) + len(images.spread)
    extra = 0 if images.misfit is None else images.misfit.size
    return int((kinds * images.mean.size + extra) * 0.9 * 4 / 3)


def _halved(images: Images) -> Images:
    def half(x: Stack) -> Stack:
        h, w = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        out: Stack = x[..., :h, :w].reshape(*x.shape[:-2], h // 2, 2, w // 2, 2).mean((-3, -1))
        return out

    spread = {name: half(stack) for name, stack in images.spread.items()}
    return replace(images, mean=half(images.mean), draws=half(images.draws), spread=spread)


def _flat(values: NDArray[Any]) -> Stack:
    return np.asarray(values, np.float32).reshape(-1, *values.shape[-2:])


def _real(values: NDArray[Any]) -> NDArray[Any]:
    return np.abs(values) if np.iscomplexobj(values) else values


def _labels(posterior: Posterior) -> list[str]:
    """A name for each image: slice, channel, or both."""
    draws = posterior.draws
    axes = []
    for dim in draws.dims[1:-2]:
        n = draws.sizes[dim]
        word = {"problem": "slice", "z": "slice"}.get(str(dim), str(dim))
        known = draws.coords[dim].values if dim in draws.coords else np.arange(n)
        mm = dim in draws.coords and draws.coords[dim].attrs.get("units") == "mm"
        names = [f"{word} {k} ({v:.4g} mm)" if mm else f"{word} {v}" for k, v in enumerate(known)]
        axes.append([""] if n == 1 and dim == "channel" else names)
    labels = [""]
    for names in axes:
        labels = [f"{a}, {b}".strip(", ") for a in labels for b in names]
    return [label or "the image" for label in labels]


def _aspect(posterior: Posterior) -> float:
    draws = posterior.draws
    lengths = []
    for dim in ("y", "x"):
        known = draws.coords[dim] if dim in draws.coords else None
        step = 1.0
        if known is not None and known.size > 1 and known.dtype.kind == "f":
            step = abs(float(known[1] - known[0]))
        lengths.append(step * draws.sizes[dim])
    return min(4.0, max(0.25, lengths[1] / lengths[0]))


def _with_misfit(images: Images, posterior: Posterior) -> Images:
    """Of data with two axes (slices of k-space, views and channels) as images, of all as numbers."""
    if "misfit" not in posterior.dataset:
        return images
    array = posterior.dataset["misfit"]
    values = np.asarray(array.values, np.float32)
    problems = values if "problem" in array.dims else values[None]
    known = [one[np.isfinite(one)] for one in problems]
    views = "CT[" in str(posterior.dataset.attrs.get("operator", ""))
    return replace(
        images,
        misfit=problems if problems.ndim == 3 else None,
        misfit_values=np.concatenate(known),
        misfit_axes="rows are views, columns channels" if views else "k-space, low frequencies in the middle",
        chi2=[float(np.mean(one**2)) if one.size else float("nan") for one in known],
    )
