"""The posterior mean under a prior with white texture: from few draws, without their grain."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.posterior import Posterior
from invdiff.priors.textured import Textured
from invdiff.units import rescale

__all__ = ["attach_expectation", "expectation"]

ITERATIONS = 30  # the system's condition is 1 + |A|^2 tau^2/sigma^2, 5 for a texture of two noise levels


def attach_expectation(measurement: Measurement, prior: Textured, posterior: Posterior) -> None:
    """Keep `expectation` with the draws, where `Posterior.mean` finds it."""
    mean = expectation(measurement, prior, posterior).cpu().resolve_conj().numpy()
    dims = posterior.draws.dims[1:]
    posterior.dataset["expectation"] = (dims, mean if measurement.batched else mean[0])


def expectation(measurement: Measurement, prior: Textured, posterior: Posterior) -> Tensor:
    """Return ``E[x | y] = v + (A^H A + sigma^2/tau^2)^-1 A^H (y - A v)``, v the mean of ``D(x_i, tau)`` over the draws.

    In ``x = u + e`` with e white, the mean of u given x is D(x, tau), the smooth prior's denoised image, and that of e
    given u is linear in the data. So neither needs e drawn, and the grain that the mean of n draws keeps ``1/sqrt(n)``
    of drops out; the rest of their scatter stays (Rao and Blackwell). One network evaluation a draw.

    Args:
        measurement: the data, ``N`` problems, of a linear operator and Gaussian noise of one level.
        prior: what the draws were made under.
        posterior: the draws, weighted or not, in the unit of the data.

    Returns:
        ``(N, *event)``, in the unit of the draws.
    """
    op, noise = measurement.operator, measurement.noise
    assert isinstance(op, LinearOperator) and isinstance(noise, Gaussian)  # `with_texture` takes no other
    x = torch.from_numpy(posterior.draws.values).to(measurement.y.device)
    x = x if measurement.batched else x[:, None]
    factor = rescale(measurement, prior)[1]
    level = torch.full((1,), prior.tau, device=x.device)
    smooth = prior.smooth.to(x.device)
    with torch.inference_mode():
        u = torch.stack([torch.cat([smooth.denoise(one[None] * factor, level) for one in draw]) for draw in x]) / factor
        share = torch.from_numpy(posterior.weights.values).to(x.device, x.real.dtype)
        share = share.reshape(*share.shape, *[1] * (u.ndim - share.ndim))
        mean = (u * share).sum(0).to(x.dtype)
        ridge = (noise.sigma * factor / prior.tau) ** 2
        rest = op.adjoint(measurement.data - op.forward(mean))
        mean = mean + cg(lambda v: op.normal(v) + ridge * v, rest, iterations=ITERATIONS, tolerance=1e-6)
        return mean if op.support is None else mean * op.support
