"""The exact posterior of a Gaussian prior, a linear operator and Gaussian noise.

Everything is done on real components (re and im interleaved, where x or y is complex) in double precision, so that
operators which are linear over the reals only, real x with complex data for instance, need no case of their own:

    S = A C A^T + V,   mean = m + C A^T S^-1 (y - A m),   covariance = C - C A^T S^-1 A C,
    log p(y) = log N(y; A m, S),   V = noise variance per real component.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.gaussian import GaussianPrior, normal

__all__ = ["GaussianPosterior", "components", "condition", "events", "posterior", "real_matrix", "real_problem"]


@dataclass(frozen=True)
class GaussianPosterior:
    """``N(mean, covariance)`` of x given y.

    Args:
        mean: event, float64 or complex128.
        covariance: of the real components, ``(D, D)`` float64, ordered as `components` does.
        log_evidence: ``log p(y)``, a density in the real components of the data that were measured.
    """

    mean: Tensor
    covariance: Tensor
    log_evidence: float

    @property
    def std(self) -> Tensor:
        """Standard deviation of each real component, shape ``(D,)``."""
        return self.covariance.diagonal().clamp_min(0).sqrt()

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n exact, independent draws, shape ``(n, *event)``, in double precision."""
        variances, directions = torch.linalg.eigh(self.covariance)
        z = normal((n, len(variances)), torch.float64, rng).cpu()
        x = components(self.mean[None]) + (z * variances.clamp_min(0).sqrt()) @ directions.mT
        return events(x, tuple(self.mean.shape), self.mean.is_complex())


def posterior(prior: GaussianPrior, measurement: Measurement) -> GaussianPosterior:
    """Return the exact posterior; cost and memory grow as (real components of x and y)^2 to ^3.

    Raises:
        DTypeError: the operator is not linear, or the noise or the prior not Gaussian.
        InputError: the measurement holds several problems: `take` one of them.
        ShapeError, DTypeError: the prior does not fit the operator.
    """
    if not isinstance(prior, GaussianPrior):
        raise DTypeError(f"prior is a {type(prior).__name__}; a linear-Gaussian posterior expects a GaussianPrior")
    matrix, y, variance = real_problem(measurement)
    prior.check(measurement.operator.domain_shape, measurement.operator.domain)
    mean = components(prior._mean[None])
    covariance = _real_covariance(prior.variances, prior.directions)
    means, covariances, logs = condition(mean, covariance[None], matrix, y, variance)
    shape = measurement.operator.domain_shape
    return GaussianPosterior(events(means, shape, prior.domain == "complex")[0], covariances[0], float(logs[0]))


def condition(
    means: Tensor,  # (K, D)
    covariances: Tensor,  # (K or 1, D, D)
    matrix: Tensor,  # (M, D)
    y: Tensor,  # (M,)
    variance: Tensor,  # (M,)
) -> tuple[Tensor, Tensor, Tensor]:
    """Condition K Gaussians on ``y = A x + n``: means ``(K, D)``, covariances ``(K or 1, D, D)``, log p(y) ``(K,)``."""
    cross = covariances @ matrix.mT
    chol = torch.linalg.cholesky(matrix @ cross + torch.diag(variance))
    white = torch.linalg.solve_triangular(chol, cross.mT, upper=False)  # (K or 1, M, D)
    residual = (y - means @ matrix.mT)[..., None]
    r = torch.linalg.solve_triangular(chol, residual, upper=False)  # (K, M, 1)
    half_logdet = chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    logs = -0.5 * (r**2).sum((-2, -1)) - half_logdet - 0.5 * len(y) * math.log(2 * math.pi)
    return means + (white.mT @ r)[..., 0], covariances - white.mT @ white, logs


def real_problem(measurement: Measurement) -> tuple[Tensor, Tensor, Tensor]:
    """Return A ``(M, D)``, y ``(M,)`` and the variance ``(M,)`` of the real components that were measured, float64."""
    operator, noise = measurement.operator, measurement.noise
    if not isinstance(operator, LinearOperator) or not isinstance(noise, Gaussian):
        raise DTypeError(
            f"{operator!r} with {type(noise).__name__} noise: an exact posterior is known for linear operators with"
            " Gaussian noise"
        )
    if measurement.n_problems > 1:
        raise InputError(f"the measurement holds {measurement.n_problems} problems; take([i]) one of them")
    parts = 2 if operator.range == "complex" else 1
    sigma = torch.as_tensor(noise.sigma, dtype=torch.float64, device="cpu")
    sigma = torch.broadcast_to(sigma, (1, *operator.range_shape)).reshape(-1).repeat_interleave(parts)
    keep = torch.ones(len(sigma), dtype=torch.bool)
    if operator.range_mask is not None:
        mask = torch.broadcast_to(operator.range_mask.cpu(), operator.range_shape)
        keep = mask.reshape(-1).repeat_interleave(parts)
    return real_matrix(operator)[keep], components(measurement.data.cpu())[0, keep], sigma[keep] ** 2


def real_matrix(operator: LinearOperator) -> Tensor:
    """Return the dense matrix of an operator on real components, ``(M, D)`` float64."""
    size = math.prod(operator.domain_shape) * (2 if operator.domain == "complex" else 1)
    basis = events(torch.eye(size, dtype=torch.float64), operator.domain_shape, operator.domain == "complex")
    wide = operator.to("cpu").to(torch.float64)
    return components(wide.forward(basis)).mT.contiguous()


def components(x: Tensor) -> Tensor:
    """The real components of a batch of events, ``(N, D)`` float64; re and im of an entry stand side by side."""
    return (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).flatten(1).to(torch.float64)


def events(values: Tensor, shape: tuple[int, ...], is_complex: bool) -> Tensor:
    """Undo `components`: ``(N, D)`` to ``(N, *shape)``, complex128 or float64."""
    if is_complex:
        return torch.view_as_complex(values.reshape(len(values), *shape, 2).contiguous())
    return values.reshape(len(values), *shape)


def _real_covariance(variances: Tensor, directions: Tensor) -> Tensor:
    """``U diag(l) U^H`` on real components: the matrix of ``v -> C v`` there, for per-component covariances C."""
    covariance = (directions * variances) @ directions.mH
    if not covariance.is_complex():
        return covariance
    blocks = torch.stack([covariance.real, -covariance.imag, covariance.imag, covariance.real], -1)
    size = len(covariance)
    return blocks.reshape(size, size, 2, 2).transpose(1, 2).reshape(2 * size, 2 * size)
