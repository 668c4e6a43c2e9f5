"""The posterior mean under a prior with white texture: from few draws, without their grain."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.priors.textured import Textured

__all__ = ["expectation"]

ITERATIONS = 30  # the system's condition is 1 + |A|^2 tau^2/sigma^2, 5 for a texture of two noise levels


def expectation(measurement: Measurement, prior: Prior, x: Tensor, log_weight: Tensor | None = None) -> Tensor | None:
    """Return ``E[x | y] = v + (A^H A + sigma^2/tau^2)^-1 A^H (y - A v)``, v the mean of ``D(x_i, tau)`` over the draws.

    In ``x = u + e`` with e white, the mean of u given x is D(x, tau), the smooth prior's denoised image, and that of e
    given u is linear in the data. So neither needs e drawn, and the grain of which the mean of n draws keeps
    ``1/sqrt(n)`` drops out; the rest of their scatter stays (Rao and Blackwell). One network evaluation a draw.

    Args:
        measurement: the data of N problems, in the prior's unit.
        prior: what the draws were made under.
        x: the draws, ``(draws, N, *event)``, in the prior's unit.
        log_weight: theirs, ``(draws, N)``.

    Returns:
        ``(N, *event)`` in x's unit, dtype and device; None where the prior has no texture, the operator is not linear,
        or the noise not Gaussian of one level.
    """
    op, noise = measurement.operator, measurement.noise
    if not isinstance(prior, Textured) or prior.tau == 0 or not isinstance(op, LinearOperator):
        return None
    if not isinstance(noise, Gaussian) or not isinstance(noise.sigma, float):
        return None
    y = measurement.data
    level = torch.full((1,), prior.tau, dtype=x.real.dtype, device=y.device)
    share = torch.full(x.shape[:2], 1 / len(x), dtype=x.real.dtype) if log_weight is None else log_weight.softmax(0)
    with torch.inference_mode():
        mean = torch.zeros_like(x[0], device=y.device)
        for draw, part in zip(x, share.to(x.real.dtype), strict=True):
            u = torch.cat([prior.smooth.denoise(one[None].to(y.device), level) for one in draw])
            mean = mean + u * part.to(y.device).reshape(-1, *[1] * (u.ndim - 1))
        ridge = (noise.sigma / prior.tau) ** 2
        rest = op.adjoint(y - op.forward(mean))
        mean = mean + cg(lambda v: op.normal(v) + ridge * v, rest, iterations=ITERATIONS, tolerance=1e-6)
    return mean.to(x.device)
