"""Phase retrieval of a Gaussian mixture: a nonlinear problem whose posterior importance sampling finds nearly exactly.

With ``y_i = |a_i x| + n_i``, A real, every pattern of signs turns the data into linear ones, ``s_i y_i = a_i x + n_i``,
and the posterior of each is a mixture in closed form. Their sum over the 2^m patterns is the proposal; the target over
it is ``prod_i 1 / (1 + exp(-2 y_i |a_i x| / sigma^2))``, which is 1 but where a datum is as small as the noise.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.imaging.phase_retrieval import PhaseRetrieval
from invdiff.operators.matrix import Matrix
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.validation.case import Case, Marginals, known_and_random
from invdiff.validation.importance import WeightedPosterior, weighted
from invdiff.validation.linear_gaussian import components
from invdiff.validation.mixture import MixturePosterior, lattice_prior, random_matrix
from invdiff.validation.mixture import posterior as linear_posterior

__all__ = ["phase_case", "posterior"]

MOST = 8  # data: 2^8 patterns of 25 components are 6400


def posterior(
    prior: GaussianMixturePrior, measurement: Measurement, rng: torch.Generator, points: int = 50_000
) -> WeightedPosterior:
    """Return weighted points of the posterior under ``|A x|``, A a real Matrix of at most 8 rows.

    Raises:
        InputError: another operator or noise, complex or more data; or an effective size below a tenth of the points.
    """
    op, noise = measurement.operator, measurement.noise
    if not (isinstance(op, PhaseRetrieval) and isinstance(op.linear, Matrix) and isinstance(noise, Gaussian)):
        raise InputError(f"{op!r}: this posterior is known for PhaseRetrieval(Matrix) with Gaussian noise")
    m = op.range_shape[0]
    if op.power != 1 or op.domain != "real" or m > MOST or not isinstance(noise.sigma, float):
        raise InputError(f"{op!r}: this posterior is known for the magnitude of at most {MOST} real numbers, one sigma")
    parts: list[MixturePosterior] = []
    for signs in itertools.product((1.0, -1.0), repeat=m):
        flipped = Measurement(torch.tensor(signs).to(measurement.y) * measurement.y, op.linear, noise)
        parts.append(linear_posterior(prior, flipped))
    logs = torch.tensor([part.log_evidence for part in parts], dtype=torch.float64)
    shares = torch.softmax(logs, 0)
    proposal = MixturePosterior(
        torch.cat([share * part.weights for share, part in zip(shares, parts, strict=True)]),
        torch.cat([part.means for part in parts]),
        parts[0].covariances if len(parts[0].covariances) == 1 else torch.cat([part.covariances for part in parts]),
        float(torch.logsumexp(logs, 0)),
    )
    x = proposal.sample(points, rng)
    y, size = measurement.y.to(torch.float64), op.to(torch.float64).forward(x)
    log_weights = torch.nn.functional.logsigmoid(2 * y * size / noise.sigma**2).sum(1)
    found = weighted(x, log_weights, least=points / 10)
    return WeightedPosterior(found.points, found.weights, found.ess, found.log_evidence + proposal.log_evidence)


def phase_case(size: int, data: int, rng: torch.Generator, sigma: float | None = None) -> Case:
    """The lattice of 25 modes seen through ``|U diag(s) V^T x|``; s and sigma as in `mixture.lattice_problem`."""
    if not 1 <= data <= min(MOST, size):
        raise InputError(f"phase_case got {data} data of {size} entries; it expects 1 to {min(MOST, size)}")
    prior = lattice_prior(size, rng)
    matrix, top = random_matrix(size, data, rng, torch.float64)
    level = float(torch.rand(1, generator=rng, dtype=torch.float64) * top) if sigma is None else sigma
    linear, noise = Matrix(matrix.float()), Gaussian(level)
    operator = PhaseRetrieval(linear)
    y = noise.sample(operator.forward(prior.sample(1, rng)), rng)[0]
    measurement = Measurement(y, operator, noise)
    points = min(50_000, 20_000_000 // size)
    exact = posterior(prior, measurement, rng, points)
    basis, seen = known_and_random(Measurement(torch.zeros_like(y), linear, noise), rng)

    def directions(x: Tensor) -> Tensor:
        return components(x) @ basis

    shares = _component_shares(prior, exact)
    chi2 = float(exact.weights @ measurement.to(torch.float64).chi2(exact.points))
    return Case(
        "nonlinear",
        prior,
        measurement,
        exact,
        directions,
        Marginals.of_draws(directions(exact.points), exact.weights),
        torch.arange(basis.shape[1]) < seen,
        chi2,
        shares,
        {"sigma": level, "truth_ess": exact.ess, "truth_points": len(exact.points)},
    )


def _component_shares(prior: GaussianMixturePrior, exact: WeightedPosterior) -> Tensor:
    zero, total = torch.zeros(1, dtype=torch.float64), torch.zeros(len(prior.weights), dtype=torch.float64)
    step = max(1, 2**24 // (len(total) * math.prod(prior.sample_shape)))
    for i in range(0, len(exact.points), step):
        total += exact.weights[i : i + step] @ prior.responsibilities(exact.points[i : i + step], zero)
    return total
