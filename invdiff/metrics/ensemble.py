"""Scores of fields and ensembles on the sphere, as WeatherBench 2 defines them (Rasp et al. 2024, 2308.15560).

Fields are ``(..., latitude, longitude)``, ensembles ``(M, ..., latitude, longitude)`` with members first. Rows are
weighted by the area of their cells. Squares are averaged over all that is averaged before the root is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.fields.sphere import cell_areas

__all__ = [
    "anomaly_correlation",
    "area_mean",
    "bias",
    "crps",
    "crps_gaussian",
    "energy_score",
    "mean_square_error",
    "rank_histogram",
    "rmse",
    "spread_skill",
]


def area_mean(field: Tensor, latitude: Sequence[float] | Tensor | None) -> Tensor:
    """Mean over latitude and longitude, weighted by area where latitudes (degrees, in either order) are given.

    Raises ShapeError: the number of latitudes is not that of the rows.
    """
    if latitude is None:
        return field.mean((-2, -1))
    weight = cell_areas(latitude).to(field.device, field.dtype)
    if field.ndim < 2 or len(weight) != field.shape[-2]:
        raise ShapeError(f"area_mean got {len(weight)} latitudes for a field {tuple(field.shape)}")
    return (field.mean(-1) * weight).mean(-1)


def rmse(truth: Tensor, estimate: Tensor, latitude: Sequence[float] | Tensor | None = None) -> float:
    """Return ``sqrt(mean |estimate - truth|^2)``, the mean over area and all leading axes. Raises ShapeError."""
    a, b = _pair(truth, estimate)
    return math.sqrt(float(area_mean((a - b) ** 2, latitude).mean()))


def bias(truth: Tensor, estimate: Tensor, latitude: Sequence[float] | Tensor | None = None) -> float:
    """Return ``mean(estimate - truth)``. Raises ShapeError."""
    a, b = _pair(truth, estimate)
    return float(area_mean(b - a, latitude).mean())


def anomaly_correlation(
    truth: Tensor, estimate: Tensor, climatology: Tensor, latitude: Sequence[float] | Tensor | None = None
) -> float:
    """Correlation over area of the departures from a climatology, not centred, averaged over the leading axes.

    Raises ShapeError; InputError: truth or estimate is the climatology itself.
    """
    a, b = _pair(truth, estimate)
    normal = climatology.to(a.device, a.dtype)
    a, b = a - normal, b - normal
    power = area_mean(a**2, latitude) * area_mean(b**2, latitude)
    if not bool((power > 0).all()):
        raise InputError("truth or estimate does not depart from the climatology; their correlation is not defined")
    return float((area_mean(a * b, latitude) / power.sqrt()).mean())


def crps(members: Tensor, truth: Tensor, *, fair: bool = True) -> Tensor:
    """Continuous ranked probability score of each datum: ``E|X - y| - E|X - X'| / 2``, in the unit of y.

    The fair form divides the sum over pairs by ``M (M - 1)``, so that its expectation is that of the distribution the
    members are from (Ferro 2014); the other, by ``M^2``, scores the members as they are. One member gives ``|X - y|``.
    `area_mean` averages it. Raises ShapeError, InputError.
    """
    x, y = _members(members, truth)
    m = len(x)
    rank = torch.arange(1, m + 1, dtype=x.dtype, device=x.device).reshape(-1, *[1] * y.ndim)
    pairs = ((2 * rank - m - 1) * x.sort(0).values).sum(0)  # of |X_i - X_j| over i < j
    return (x - y).abs().mean(0) - pairs / (max(m - 1, 1) * m if fair else m * m)


def crps_gaussian(mean: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """The same score of a normal distribution: ``s [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]``, z = (y - mean) / s.

    Raises InputError: a standard deviation is not above 0. Source: Gneiting et al. 2005.
    """
    if not bool((std > 0).all()):
        raise InputError("crps_gaussian got a standard deviation that is not above 0; expected positive numbers")
    z = (truth - mean) / std
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return std * (z * torch.special.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def mean_square_error(
    members: Tensor,
    truth: Tensor,
    latitude: Sequence[float] | Tensor | None = None,
    *,
    debiased: bool = False,
) -> float:
    """Mean square of (ensemble mean - truth); debiased: without the part, variance / M, that few members add.

    Raises ShapeError, InputError: fewer than two members.
    """
    x, y = _members(members, truth, least=2)
    square = (x.mean(0) - y) ** 2
    return float(area_mean(square - x.var(0) / len(x) if debiased else square, latitude).mean())


def spread_skill(members: Tensor, truth: Tensor, latitude: Sequence[float] | Tensor | None = None) -> float:
    """Return ``sqrt((M + 1) / M) sqrt(mean variance) / sqrt(mean square error of the ensemble mean)``: 1 if reliable.

    Variances (ddof = 1) are averaged, not deviations; the factor is for M members, truth being like one more (Fortin
    et al. 2014). Raises ShapeError, InputError: fewer than two members, or no error at all.
    """
    x, y = _members(members, truth, least=2)
    skill = float(area_mean((x.mean(0) - y) ** 2, latitude).mean())
    if skill == 0:
        raise InputError("the ensemble mean is the truth itself; the ratio of spread and skill is not defined")
    return math.sqrt((len(x) + 1) / len(x) * float(area_mean(x.var(0), latitude).mean()) / skill)


def rank_histogram(members: Tensor, truth: Tensor, rng: torch.Generator) -> Tensor:
    """How often the truth has rank 0 ... M among the members, int64 ``(M + 1,)``: flat if reliable.

    Among equal values the rank is drawn. Raises ShapeError, InputError.
    """
    x, y = _members(members, truth)
    below, equal = (x < y).sum(0), (x == y).sum(0)
    draw = torch.rand(y.shape, generator=rng, dtype=torch.float64, device=rng.device).to(y.device)
    rank = below + torch.minimum((draw * (equal + 1)).long(), equal)
    return torch.bincount(rank.flatten(), minlength=len(x) + 1)


def energy_score(
    members: Tensor, truth: Tensor, latitude: Sequence[float] | Tensor | None = None, *, fair: bool = True
) -> float:
    """``E||X - y|| - E||X - X'|| / 2`` of whole fields ``(C, latitude, longitude)``, C in comparable units.

    The norm is the root of the area-weighted mean square, summed over C. `fair` is as in `crps`. Raises ShapeError,
    InputError. Source: Gneiting and Raftery 2007.
    """
    x, y = _members(members, truth)
    m = len(x)

    def norm(difference: Tensor) -> Tensor:
        square = area_mean(difference**2, latitude)
        return square.reshape(len(difference), -1).sum(1).sqrt()

    pairs = sum(float(norm(x[:i] - x[i]).sum()) for i in range(1, m))
    return float(norm(x - y).mean()) - pairs / (max(m - 1, 1) * m if fair else m * m)


def _pair(truth: Tensor, estimate: Tensor) -> tuple[Tensor, Tensor]:
    if truth.shape != estimate.shape or truth.ndim < 2:
        raise ShapeError(
            f"truth has shape {tuple(truth.shape)} and estimate {tuple(estimate.shape)}; expected the same"
            " (..., latitude, longitude)"
        )
    return _finite(truth), _finite(estimate)


def _members(members: Tensor, truth: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    if members.ndim != truth.ndim + 1 or members.shape[1:] != truth.shape or len(members) < 1:
        raise ShapeError(
            f"members have shape {tuple(members.shape)} for a truth {tuple(truth.shape)}; expected (M, *truth)"
        )
    if len(members) < least:
        raise InputError(f"an ensemble of {len(members)} has no spread; expected at least {least} members")
    return _finite(members), _finite(truth)


def _finite(values: Tensor) -> Tensor:
    if values.is_complex() or not bool(values.isfinite().all()):
        raise InputError("a field is complex or holds NaN or infinity; leave what is missing out before it is scored")
    return values.detach().double()
