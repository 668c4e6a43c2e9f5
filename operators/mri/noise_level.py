"""The noise level of k-space, estimated from k-space itself.

`noise_level` needs no image and no coil maps. Towards the edge of k-space the signal falls off and the noise does
not; and of the combinations of coils, some hardly see the object at all. So the data are turned to the principal
directions of the coils (eigenvectors of their covariance in the centre), and their mean power ``p_ij`` is taken for
direction i and ring j. The coil images share one image, hence nearly one spectrum f: ``p_ij = a_i f_j + b_i``. With
``f_j = sum_i p_ij - C b`` each direction's line gives its noise ``b_i``, reliably where ``a_i`` is small, and b is
their mean, weighted by what is known of each: sampling error, doubt about the common spectrum, and a spread of the
``b_i`` among themselves (coils differ), as in a meta-analysis (DerSimonian and Laird, Control. Clin. Trials 7
(1986)). What this leaves open (one coil; noise above the signal everywhere) is settled by a power law ``f_j ~
r_j^-3``, held to be right to a fifth of the signal in the first ring.

`residual_noise_level` is for when coil maps are known: what a least-squares image leaves of the data, divided by what
it leaves of white noise. It includes the error of the maps, as does every later misfit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.linalg import cg
from invdiff.operators.mri.sense import MRI

__all__ = ["NoiseLevel", "noise_level", "residual_noise_level"]

_INNER, _OUTER = 0.3, 0.45  # radius, in units of the sampled extent: coil directions from inside, rings outside
_RINGS = 10
_MISFIT = 0.5  # relative doubt about the signal subtracted in a direction
_TAIL = 0.2  # doubt about the power law, in units of the signal in the first ring
_LEAST = 0.25  # of the power at the edge that is noise, at least, when only the power law tells


class NoiseLevel(NamedTuple):
    """Standard deviation of the noise per real component, in the unit of k-space, and its standard error."""

    sigma: float
    uncertainty: float


def noise_level(kspace: Tensor, mask: Tensor) -> NoiseLevel:
    """Estimate sigma from k-space ``(coils, H, W)`` sampled where `mask`, ``(W,)`` or ``(H, W)``, is true.

    With six coils or more it is good to a few per cent, with four mostly. With one or two, and a signal that exceeds
    the noise up to the edge of k-space, it cannot be, which the uncertainty then says: noise and fine detail look the
    same. Where the noise differs between coils, sigma is a mean over the directions that show it.

    Raises:
        ShapeError: shapes do not fit. InputError: NaN, too few samples, or no power at the edge (not noise).
    """
    y, radius = _samples(kspace, mask)
    inside, outside = radius < _INNER, radius >= _OUTER
    if int(outside.sum()) < 8 * _RINGS:
        raise InputError(
            f"noise_level found {int(outside.sum())} samples in the outer half of the sampled k-space; it needs"
            f" {8 * _RINGS}: give sigma"
        )
    directions = torch.linalg.eigh(y[:, inside] @ y[:, inside].mH)[1]
    power = (directions.mH @ y[:, outside]).abs().square() / 2
    rings = radius[outside].argsort().chunk(_RINGS)
    n = torch.tensor([ring.numel() for ring in rings], dtype=power.dtype, device=power.device)
    p = torch.stack([power[:, ring].mean(1) for ring in rings], 1)
    r = torch.stack([radius[outside][ring].log().mean().exp() for ring in rings])
    if bool((p.sum(0) == 0).any()):
        raise InputError("noise_level found samples that are exactly zero: the mask is wider than what was measured")
    variance, error = _by_directions(p, n, *_by_power_law(p, n, r))
    return NoiseLevel(variance**0.5, error / (2 * variance**0.5))


def residual_noise_level(kspace: Tensor, operator: MRI, iterations: int = 80) -> NoiseLevel:
    """Estimate sigma from k-space ``(coils, H, W)`` and its operator (with coil maps), one problem.

    The image is the least-squares one with a very weak ridge; ``sigma^2`` is the power of its residual over that of
    unit noise treated alike (one draw, seed 0), both outside the centre, where the maps' errors are largest.

    Raises:
        ShapeError: shapes do not fit. InputError: NaN, or so few data for the unknowns that hardly any residual is
            left (say one coil): use `noise_level`.
    """
    if operator.n_problems > 1:
        raise ShapeError(f"residual_noise_level got {operator!r}; it expects one problem: use operator.take([i])")
    _, radius = _samples(kspace, operator.mask[0])
    if kspace.shape != operator.range_shape:
        raise ShapeError(f"kspace has shape {tuple(kspace.shape)}; {operator!r} expects {operator.range_shape}")
    mask = operator.mask[0].expand(kspace.shape[-2:])
    unit = torch.randn(2, *kspace.shape, generator=torch.Generator().manual_seed(0), dtype=kspace.real.dtype)
    y = torch.stack([kspace, torch.complex(*unit).to(kspace)]) * mask
    ridge = 0.01 * float(operator.coil_maps.abs().square().sum(2).max())
    x = cg(lambda v: operator.normal(v) + ridge * v, operator.adjoint(y), iterations=iterations)
    outside = torch.zeros_like(mask).masked_scatter(mask, (radius >= _INNER).to(mask.device))
    left = (y - operator.forward(x))[..., outside].abs().square().mean((1, 2)).tolist()
    if left[1] < 0.1 * 2:
        raise InputError(
            f"an image takes up {100 - 50 * left[1]:.0f} % of the noise in these data ({operator!r}): the residual"
            " says too little about it. Use noise_level(kspace, mask), or give sigma"
        )
    sigma = (left[0] / left[1]) ** 0.5
    degrees = kspace.shape[0] * int(outside.sum()) * left[1] / 2
    return NoiseLevel(sigma, sigma * (0.5 / degrees) ** 0.5)  # two powers, of the data and of the unit noise


def _samples(kspace: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Samples ``(coils, n)`` in complex128 and their radius ``(n,)``: 1 at the ends of the sampled extent's axes."""
    if kspace.ndim != 3 or not kspace.is_complex():
        raise ShapeError(f"kspace is {kspace.dtype} {tuple(kspace.shape)}; expected is complex (coils, H, W)")
    shape = kspace.shape[-2:]
    if not 1 <= mask.ndim <= 2 or any(n not in (1, m) for n, m in zip(mask.shape[::-1], shape[::-1], strict=False)):
        raise ShapeError(f"mask of shape {tuple(mask.shape)} does not fit kspace of shape {tuple(kspace.shape)}")
    mask = (mask != 0).expand(shape)
    if not bool(mask.any()):
        raise InputError("the mask is false everywhere; nothing was sampled")
    y = kspace[:, mask].cpu().to(torch.complex128)
    if not bool(torch.isfinite(torch.view_as_real(y)).all()):
        raise InputError("kspace holds NaN or infinity where it was sampled")
    from_centre = [i - n // 2 for i, n in zip(mask.cpu().nonzero().T, shape, strict=True)]
    return y, torch.hypot(*(d / d.abs().max().clamp_min(1).double() for d in from_centre))


def _line(p: Tensor, n: Tensor, f: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Fit ``p_j = a f_j + b`` to mean powers of n_j samples each (standard deviation ``p_j / sqrt(n_j)``).

    Returns a, mean p, mean f (so ``b = mean p - a mean f``), and the variances of a and of mean p.
    """
    expected = p
    for _ in range(4):
        weight = n / expected**2
        total = weight.sum(-1)
        mean_p, mean_f = (weight * p).sum(-1) / total, (weight * f).sum(-1) / total
        away = f - mean_f[..., None]
        a = (weight * away * p).sum(-1) / (weight * away**2).sum(-1)
        expected = torch.maximum(mean_p[..., None] + a[..., None] * away, 0.3 * p)
    return a, mean_p, mean_f, 1 / (weight * away**2).sum(-1), 1 / total


def _by_power_law(p: Tensor, n: Tensor, r: Tensor) -> tuple[float, float]:
    """Noise variance and its standard error from the power of all coils together."""
    mean, coils = p.mean(0), p.shape[0]
    found = []
    for exponent in (2, 3, 4):
        a, mean_p, mean_f, var_a, var_p = _line(mean, n * max(1, coils / 2), r**-exponent)
        found.append((float(mean_p - a * mean_f), float(var_p + mean_f**2 * var_a) ** 0.5))
    edge = float(mean[-1])
    variance = min(max(found[1][0], _LEAST * edge), edge)
    error = max(abs(found[2][0] - found[0][0]) / 2, abs(found[1][0] - variance), found[1][1])
    return variance, math.hypot(error, _TAIL * max(float(mean[0]) - variance, 0))


def _by_directions(p: Tensor, n: Tensor, prior: float, prior_error: float) -> tuple[float, float]:
    """Noise variance and its standard error, given those from the power law."""
    coils, variance = p.shape[0], prior
    if coils == 1:
        return prior, prior_error
    sums, edge = p.sum(0), float(p[:, -1].mean())
    error = prior_error
    for _ in range(12):
        f = sums - coils * variance
        a, mean_p, mean_f, var_a, var_p = _line(p, n, f)
        # Signal at the edge, to be subtracted, is known up to _MISFIT.
        known = var_p + mean_f**2 * var_a + (_MISFIT * a * float(f[-3:].mean().clamp_min(0))) ** 2
        spread = _spread(mean_p - a * mean_f, known)
        weight = 1 / (known + spread)
        weight = weight / weight.sum()
        # The lines' offsets depend on b through f: b = offset + slope b, and little is known if the slope is near 1.
        slope = coils * float((weight * a).sum())
        offset = float((weight * (mean_p - a * (mean_f + coils * variance))).sum())
        room = max(1 - slope, 1e-3)
        found = min(max(offset / room, 0.02 * edge), edge)
        found_error = float((weight**2 * (known + spread)).sum()) ** 0.5 / room
        trust = prior_error**2 / (prior_error**2 + found_error**2)
        variance = 0.5 * variance + 0.5 * (trust * found + (1 - trust) * prior)
        error = trust**0.5 * found_error
    return variance, error


def _spread(values: Tensor, variances: Tensor) -> Tensor:
    """Variance between values beyond their own: the moment estimate of DerSimonian and Laird."""
    w = 1 / variances
    q = (w * (values - (w * values).sum() / w.sum()) ** 2).sum()
    return ((q - (values.numel() - 1)) / (w.sum() - (w**2).sum() / w.sum())).clamp_min(0)
