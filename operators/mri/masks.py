"""Sampling masks for Cartesian k-space: plain functions that return boolean tensors, true where k-space is measured.

=============================  ========  ==================================================================
``random_mask``                ``(W,)``  columns drawn independently (fastMRI "random")
``equispaced_mask``            ``(W,)``  every R-th column and the centre (fastMRI "equispaced")
``equispaced_fraction_mask``   ``(W,)``  the same, spaced so that the acceleration is met (fastMRI "fraction")
``gaussian_mask``              either    a fixed number of columns or points, denser in the centre
``poisson_disc_mask``          ``(H,W)`` points that keep a distance from each other
``radial_mask``                ``(H,W)`` spokes through the centre, rounded to the grid
=============================  ========  ==================================================================

The centre of k-space is entry ``n // 2`` of an axis of length n. `seed` is an integer, a sequence of integers or a
``numpy.random.RandomState``, which goes on from where it stands; its stream is frozen, so a seed means the same mask
for good. The first three give the masks of fastMRI's classes of these names for the same seed (Zbontar et al. 2018,
arXiv:1811.08839). What "acceleration" was asked for is not always what a mask gives: `achieved_acceleration` counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.mri.poisson_disc import fill

__all__ = [
    "achieved_acceleration",
    "equispaced_fraction_mask",
    "equispaced_mask",
    "gaussian_mask",
    "poisson_disc_mask",
    "radial_mask",
    "random_mask",
]

Seed = int | Sequence[int] | np.random.RandomState
_GOLDEN = math.pi * (math.sqrt(5) - 1) / 2  # 111.25 degrees


def random_mask(width: int, acceleration: float, center_fraction: float = 0.08, *, seed: Seed = 0) -> Tensor:
    """``round(width * center_fraction)`` central columns, the others each with one probability; bool ``(width,)``.

    The probability makes ``width / acceleration`` columns in the mean.

    Raises:
        InputError: an option is out of its range, the centre alone exceeds ``width / acceleration``, or chance left
            no column at all.
    """
    centre = _central_columns(width, acceleration, center_fraction)
    low = int(centre.sum())
    _check_budget(low, width, acceleration, "columns")
    probability = (width / acceleration - low) / (width - low) if low < width else 0.0
    mask = centre | (_random_state(seed).uniform(size=width) < probability)
    if not mask.any():
        raise InputError(
            f"random_mask drew none of {width} columns at acceleration {acceleration:g} with an empty centre;"
            " set center_fraction above 0"
        )
    return torch.from_numpy(mask)


def equispaced_mask(
    width: int, acceleration: int, center_fraction: float = 0.08, *, offset: int | None = None, seed: Seed = 0
) -> Tensor:
    """Every `acceleration`-th column from `offset` (drawn if None) and the centre; bool ``(width,)``.

    The centre comes on top, so the achieved acceleration is below the one asked for.

    Raises:
        InputError: an option is out of its range; `acceleration` is not an integer.
    """
    mask = _central_columns(width, acceleration, center_fraction)
    if acceleration != int(acceleration):
        raise InputError(f"equispaced_mask got acceleration {acceleration:g}; it expects an integer number of columns")
    mask[_offset(offset, int(acceleration), width, seed) :: int(acceleration)] = True
    return torch.from_numpy(mask)


def equispaced_fraction_mask(
    width: int,
    acceleration: float,
    center_fraction: float = 0.08,
    *,
    offset: int | None = None,
    seed: Seed = 0,
) -> Tensor:
    """Nearly equally spaced columns and the centre, about ``width / acceleration`` in all; bool ``(width,)``.

    With c central columns the others stand ``acceleration (width - c) / (width - c acceleration)`` apart.

    Raises:
        InputError: an option is out of its range, or the centre alone exceeds ``width / acceleration``.
    """
    mask = _central_columns(width, acceleration, center_fraction)
    low = int(mask.sum())
    _check_budget(low, width, acceleration, "columns")
    if low * acceleration < width:
        spacing = acceleration * (low - width) / (low * acceleration - width)
        start = _offset(offset, round(spacing), width, seed)
        mask[np.around(np.arange(start, width - 1, spacing)).astype(np.intp)] = True
    return torch.from_numpy(mask)


def gaussian_mask(
    shape: int | tuple[int, int],
    acceleration: float,
    calibration: int | tuple[int, int] = 24,
    *,
    std: float = 0.2,
    seed: Seed = 0,
) -> Tensor:
    """Exactly ``round(size / acceleration)`` columns (int shape) or points (``(H, W)``), denser in the centre.

    The `calibration` central columns (or block of points) are all taken; the others without replacement with
    probabilities proportional to ``exp(-|k|^2 / (2 std^2))``, k in units of the axis length (-0.5 to 0.5). Bool.

    Raises:
        InputError: an option is out of its range, or the calibration region exceeds the number of samples.
    """
    sides = (shape,) if isinstance(shape, int) else tuple(shape)
    mask = _central_block(sides, acceleration, calibration)
    if not (math.isfinite(std) and std > 0):
        raise InputError(f"gaussian_mask got std {std}; it expects a number above 0, in units of the axis length")
    budget = _budget(mask, np.ones_like(mask), acceleration)
    # The largest of log-probability plus Gumbel noise: sampling without replacement (Gumbel-top-k).
    score = -0.5 * (_radius(sides) / (2 * std)) ** 2 + _random_state(seed).gumbel(size=sides)
    score[mask] = -np.inf
    chosen = np.argsort(-score, axis=None, kind="stable")[: budget - int(mask.sum())]
    mask.reshape(-1)[chosen] = True
    return torch.from_numpy(mask)


def poisson_disc_mask(
    shape: tuple[int, int],
    acceleration: float,
    calibration: int | tuple[int, int] = 24,
    *,
    spread: float = 1.0,
    ellipse: bool = False,
    seed: Seed = 0,
) -> Tensor:
    """Exactly ``round(H W / acceleration)`` points that keep their distance; bool ``(H, W)``.

    Points are tried in random order and kept where none is nearer than ``r (1 + (spread - 1) rho)`` grid steps, rho
    from 0 in the centre to 1 at the ends of the axes (and beyond). When no room is left, r shrinks by a few percent
    and the gaps are filled again (McCool and Fiume, Graphics Interface 1992), until the number is reached.

    Args:
        shape: ``(H, W)``, both phase encoded.
        acceleration: grid points over samples, those of the calibration region and outside the ellipse counted too.
        calibration: side (or sides) of the fully sampled central block.
        spread: distance between samples at the edge over that in the centre; 1 is uniform density.
        ellipse: leave out the corners, ``rho > 1``.
        seed: see the module.

    Raises:
        InputError: an option is out of its range, or the number of samples is below the calibration region's or above
            the ellipse's.
    """
    mask = _central_block(shape, acceleration, calibration)
    if len(shape) != 2:
        raise ShapeError(f"poisson_disc_mask got shape {shape}; it expects (H, W)")
    if not (math.isfinite(spread) and spread > 0):
        raise InputError(f"poisson_disc_mask got spread {spread}; it expects a number above 0")
    rho = _radius(shape)
    inside = rho <= 1 if ellipse else np.ones_like(mask)
    missing = _budget(mask, inside, acceleration) - int(mask.sum())
    fill(mask, inside, 1 + (spread - 1) * np.minimum(rho, 1), missing, _random_state(seed))
    return torch.from_numpy(mask)


def radial_mask(
    shape: tuple[int, int],
    spokes: int,
    *,
    golden: bool = True,
    calibration: int | tuple[int, int] = 0,
    seed: Seed | None = None,
) -> Tensor:
    """Spokes through the centre out to the inscribed ellipse, rounded to the grid; bool ``(H, W)``.

    Successive spokes are turned by the golden angle 111.25 degrees (Winkelmann et al., IEEE Trans. Med. Imaging 26,
    2007), or by ``180 / spokes`` degrees; angles are those of k-space scaled to a square. The first lies along the
    columns' axis, or at a random angle where `seed` is given. A central block of side `calibration` is added.

    Raises:
        InputError: spokes is below 1, or an option is out of its range.
    """
    mask = _central_block(shape, 1.0, calibration)
    if len(shape) != 2:
        raise ShapeError(f"radial_mask got shape {shape}; it expects (H, W)")
    if isinstance(spokes, bool) or int(spokes) != spokes or spokes < 1:
        raise InputError(f"radial_mask got {spokes} spokes; it expects an integer of at least 1")
    height, width = shape
    first = 0.0 if seed is None else float(_random_state(seed).uniform(0, math.pi))
    angle = first + np.arange(int(spokes)) * (_GOLDEN if golden else math.pi / spokes)
    along = np.linspace(-1, 1, 2 * max(shape) + 1)  # two points a grid step: no gaps
    i = np.around(height // 2 + np.sin(angle)[:, None] * along * (height / 2)).astype(int)
    j = np.around(width // 2 + np.cos(angle)[:, None] * along * (width / 2)).astype(int)
    on_grid = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    mask[i[on_grid], j[on_grid]] = True
    return torch.from_numpy(mask)


def achieved_acceleration(mask: Tensor) -> float:
    """Positions of the grid over positions sampled. Raises InputError for an empty mask or one that samples nothing."""
    mask = torch.as_tensor(mask)
    sampled = int(torch.count_nonzero(mask))
    if sampled == 0:
        raise InputError(f"the mask of shape {tuple(mask.shape)} samples nothing; it has no acceleration")
    return mask.numel() / sampled


def _random_state(seed: Seed) -> np.random.RandomState:
    if isinstance(seed, np.random.RandomState):
        return seed
    try:
        return np.random.RandomState(seed)
    except (TypeError, ValueError) as error:
        raise InputError(f"seed is {seed!r}; it expects an integer from 0 to 2**32 - 1, or several") from error


def _check_sides(sides: Sequence[int], acceleration: float) -> None:
    if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in sides):
        raise InputError(f"the size of k-space is {tuple(sides)}; it expects integers of at least 1")
    if not (math.isfinite(acceleration) and acceleration >= 1):
        raise InputError(f"acceleration is {acceleration}; it expects a number of at least 1 (1 samples everything)")


def _central_columns(width: int, acceleration: float, center_fraction: float) -> NDArray[np.bool_]:
    _check_sides((width,), acceleration)
    if not 0 <= center_fraction <= 1:
        raise InputError(f"center_fraction is {center_fraction}; it expects a fraction of the columns, from 0 to 1")
    low = round(width * center_fraction)
    mask = np.zeros(width, bool)
    start = (width - low + 1) // 2  # as fastMRI: for odd width and even low one right of n // 2 - low // 2
    mask[start : start + low] = True
    return mask


def _central_block(sides: Sequence[int], acceleration: float, calibration: int | tuple[int, int]) -> NDArray[np.bool_]:
    _check_sides(sides, acceleration)
    block = (calibration,) * len(sides) if isinstance(calibration, int) else tuple(calibration)
    if len(block) != len(sides) or not all(0 <= c <= n for c, n in zip(block, sides, strict=True)):
        raise InputError(f"calibration is {calibration}; it expects sides from 0 to those of k-space, {tuple(sides)}")
    mask = np.zeros(sides, bool)
    mask[tuple(slice(n // 2 - c // 2, n // 2 - c // 2 + c) for n, c in zip(sides, block, strict=True))] = True
    return mask


def _offset(offset: int | None, spacing: int, width: int, seed: Seed) -> int:
    if offset is None:
        return int(_random_state(seed).randint(0, high=spacing))
    if not 0 <= offset < width:
        raise InputError(f"offset is {offset}; it expects the number of a column, from 0 to {width - 1}")
    return offset


def _budget(centre: NDArray[np.bool_], inside: NDArray[np.bool_], acceleration: float) -> int:
    """The number of samples that acceleration asks for, if the centre does not exceed it and the region holds it."""
    total, most = centre.size, int((inside | centre).sum())
    budget = max(1, round(total / acceleration))
    _check_budget(int(centre.sum()), total, total / budget, "positions")
    if budget > most:
        raise InputError(
            f"acceleration {acceleration:g} asks for {budget} of {total} positions, but the ellipse holds {most}:"
            f" at least acceleration {total / most:.4g} with it"
        )
    return budget


def _check_budget(centre: int, total: int, acceleration: float, what: str) -> None:
    if centre > total / acceleration * (1 + 1e-9):
        raise InputError(
            f"the fully sampled centre takes {centre} of {total} {what}, but acceleration {acceleration:g} leaves"
            f" {total / acceleration:.4g}: at most acceleration {total / centre:.4g} with this centre, or a centre of"
            f" at most {math.floor(total / acceleration)} {what}"
        )


def _radius(sides: Sequence[int]) -> NDArray[np.float64]:
    """Distance from the centre of k-space, 1 at the ends of the axes; its square is the sum over the axes."""
    grids = np.meshgrid(*[(np.arange(n) - n // 2) / (n / 2) for n in sides], indexing="ij")
    radius: NDArray[np.float64] = np.sqrt(sum(g**2 for g in grids))
    return radius
