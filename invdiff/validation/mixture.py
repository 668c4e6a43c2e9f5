"""A mixture of 25 Gaussians seen through a random matrix, with its exact posterior.

The test bed of G. Cardoso, Y. Janati, S. Le Corff and E. Moulines, 2023, arXiv 2308.07983: modes on a lattice, so that
a sampler has to find several of them *and* give each its weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import normal
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.validation.linear_gaussian import _real_covariance, components, condition, events, real_problem

__all__ = ["MixturePosterior", "lattice_prior", "lattice_problem", "posterior"]


@dataclass(frozen=True)
class MixturePosterior:
    """``sum_k w_k N(m_k, C_k)`` of x given y.

    Args:
        weights: ``(K,)`` float64. means: ``(K, *event)`` in double precision.
        covariances: of the real components, ``(K or 1, D, D)`` float64.
        log_evidence: ``log p(y)``.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    log_evidence: float

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n exact, independent draws, shape ``(n, *event)``, in double precision."""
        index = torch.multinomial(self.weights.to(rng.device), n, replacement=True, generator=rng).cpu()
        variances, directions = torch.linalg.eigh(self.covariances)
        roots = directions * variances.clamp_min(0).sqrt()[:, None]
        z = normal((n, roots.shape[-1]), torch.float64, rng).cpu()
        spread = z @ roots[0].mT if len(roots) == 1 else (roots[index] @ z[..., None])[..., 0]
        return events(components(self.means)[index] + spread, tuple(self.means.shape[1:]), self.means.is_complex())


def posterior(prior: GaussianMixturePrior, measurement: Measurement) -> MixturePosterior:
    """Return the exact posterior under a linear operator and Gaussian noise.

    Raises:
        DTypeError, InputError, ShapeError: as `invdiff.validation.linear_gaussian.posterior`.
    """
    matrix, y, variance = real_problem(measurement)
    prior.check(measurement.operator.domain_shape, measurement.operator.domain)
    covariances = torch.stack([_real_covariance(v, u) for v, u in zip(prior.variances, prior.directions, strict=True)])
    means, covariances, logs = condition(components(prior._means), covariances, matrix, y, variance)
    joint = prior.weights.log() + logs
    shape = measurement.operator.domain_shape
    return MixturePosterior(
        torch.softmax(joint, 0),
        events(means, shape, prior.domain == "complex"),
        covariances,
        float(torch.logsumexp(joint, 0)),
    )


def lattice_prior(size: int, rng: torch.Generator, domain: str = "real") -> GaussianMixturePrior:
    """25 unit Gaussians at ``(8i, 8j, 8i, 8j, ...)``, i, j = -2..2, with normalised chi-squared(1) weights.

    Where x is complex i and j run over 0, 1, -1, sqrt(-1), -sqrt(-1), and the variance is 1 per real component.
    Raises InputError where `size`, the number of entries of x, is below 2.
    """
    if size < 2:
        raise InputError(f"lattice_prior got size {size}; it expects at least 2")
    steps = torch.tensor([0, 1, -1, 1j, -1j]) if domain == "complex" else torch.arange(-2.0, 3.0)
    i, j = torch.meshgrid(steps, steps, indexing="ij")
    pairs = 8.0 * torch.stack([i.reshape(-1), j.reshape(-1)], 1)
    means = pairs.repeat(1, (size + 1) // 2)[:, :size]
    weights = torch.randn(25, generator=rng, dtype=torch.float64) ** 2
    return GaussianMixturePrior(weights, means, torch.eye(size), domain)


def lattice_problem(
    size: int, data: int, rng: torch.Generator, sigma: float | None = None, domain: str = "real"
) -> tuple[GaussianMixturePrior, Measurement]:
    """A lattice prior and a measurement ``y = U diag(s) V^H x + sigma n`` of one of its draws, `data` numbers.

    U and V are random orthogonal (unitary), the s sorted uniform in [0, 1], sigma (where not given) uniform in
    [0, max s].
    """
    if not 1 <= data <= size:
        raise InputError(f"lattice_problem got {data} data of {size} entries; it expects 1 to {size}")
    prior = lattice_prior(size, rng, domain)
    matrix, top = random_matrix(size, data, rng, torch.complex128 if domain == "complex" else torch.float64)
    level = float(torch.rand(1, generator=rng, dtype=torch.float64) * top) if sigma is None else sigma
    operator, noise = Matrix(matrix.to(prior.means.dtype)), Gaussian(level)
    y = noise.sample(operator.forward(prior.sample(1, rng)), rng)[0]
    return prior, Measurement(y, operator, noise)


def random_matrix(size: int, data: int, rng: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, float]:
    """``U diag(s) V^H`` of shape ``(data, size)`` with s sorted uniform in [0, 1]; and the largest s."""
    u, _ = torch.linalg.qr(normal((data, data), dtype, rng))
    v, _ = torch.linalg.qr(normal((size, data), dtype, rng))
    s = torch.rand(data, generator=rng, dtype=torch.float64).sort(descending=True).values
    return (u * s) @ v.mH, float(s[0])
