"""Named families of problems with known posteriors, drawn afresh from a generator.

=============  ====================================================================================================
``mixture``    25 modes on a lattice, 1, 2 or 4 linear data (`mixture.lattice_problem`)
``gaussian``   a Gaussian prior of variances 0.1 to 1.5 and random projections
``field``      a stationary Gaussian field behind a periodic blur; `dim` is the side of the image
``complex``    these three with complex x, A and y
``nonlinear``  the magnitude of linear data of the mixture; truth by importance sampling of known efficiency
``density``    a Laplace density and a ring, by quadrature
=============  ====================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, UnknownNameError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator, Operator
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.validation.case import Case, Marginals, expected_chi2, gaussian_directions, known_and_random
from invdiff.validation.density import density_case
from invdiff.validation.field import field_case
from invdiff.validation.linear_gaussian import _real_covariance, components, posterior
from invdiff.validation.mixture import lattice_problem
from invdiff.validation.mixture import posterior as mixture_posterior
from invdiff.validation.nonlinear import phase_case
from invdiff.validation.operator_suite import build
from invdiff.validation.sampler_problem import problem

__all__ = ["Family", "SUITES", "families", "gaussian_case", "mixture_case", "operator_family"]

Family = Callable[[torch.Generator], Case]

SUITES = ("mixture", "gaussian", "field", "complex", "nonlinear", "density")
MOST = 4096  # real components of a problem solved with dense matrices


def families(
    suite: str, dim: int | None = None, observed: int | None = None, sigma: float | None = None
) -> list[Family]:
    """Return the functions ``rng -> Case`` of a suite.

    Args:
        dim: entries of x (8; for ``field`` the side of the image, 32). observed: number of data (1 for mixtures, 2
            for ``nonlinear``, 3 for Gaussians). sigma: noise level; drawn with each problem where not given.

    Raises:
        UnknownNameError: no such suite. InputError: numbers that make no problem.
    """
    for name, value in (("dim", dim), ("observed", observed)):
        if value is not None and value < 1:
            raise InputError(f"{name} = {value}; it expects at least 1")
    if observed is not None and suite in ("field", "density"):
        raise InputError(f"the suite {suite!r} has no choice of observed: leave it out")
    size = dim or 8
    made: dict[str, list[Family]] = {
        "mixture": [lambda rng: mixture_case(size, observed or 1, rng, sigma)],
        "gaussian": [lambda rng: gaussian_case(size, observed or min(3, size), rng, sigma)],
        "field": [lambda rng: field_case(dim or 32, rng, sigma)],
        "complex": [
            lambda rng: gaussian_case(size, observed or min(3, size), rng, sigma, "complex"),
            lambda rng: mixture_case(size, observed or 1, rng, sigma, "complex"),
            lambda rng: field_case(size, rng, sigma, "complex"),
        ],
        "nonlinear": [lambda rng: phase_case(size, observed or min(2, size), rng, sigma)],
        "density": [
            lambda rng, d=d: density_case(d, rng, sigma)  # type: ignore[misc]
            for d in ((1, 2) if dim is None else (dim,))
        ],
    }
    if suite not in made:
        raise UnknownNameError(f"no suite {suite!r}; known: {', '.join(SUITES)}")
    return made[suite]


def mixture_case(size: int, data: int, rng: torch.Generator, sigma: float | None = None, domain: str = "real") -> Case:
    """The lattice problem; the directions are those the data see, and random ones across them."""
    prior, measurement = lattice_problem(size, data, rng, sigma, domain)
    exact = mixture_posterior(prior, measurement)
    basis, seen = known_and_random(measurement, rng)
    spread = (basis.mT @ exact.covariances @ basis).diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    return Case(
        "mixture" if domain == "real" else "complex mixture",
        prior,
        measurement,
        exact,
        lambda x: components(x) @ basis,
        Marginals(exact.weights, components(exact.means) @ basis, spread),
        torch.arange(basis.shape[1]) < seen,
        expected_chi2(exact, measurement),
        exact.weights,
        {"sigma": measurement.noise.sigma},  # type: ignore[attr-defined]
    )


def gaussian_case(size: int, data: int, rng: torch.Generator, sigma: float | None = None, domain: str = "real") -> Case:
    """A Gaussian prior and random projections; sigma (where not given) 0.03 to 1, uniform in the logarithm."""
    u = float(torch.rand(1, generator=rng, dtype=torch.float64))
    level = 0.03 * (1 / 0.03) ** u if sigma is None else sigma
    drawn = problem(domain, rng, size, data, level)
    return _gaussian("gaussian" if domain == "real" else "complex gaussian", drawn.prior, drawn.measurement)


def operator_family(target: object, sigma: float | None = None) -> Family:
    """A user's operator (class with ``example``, instance or factory) under a Gaussian prior of variances 0.1 to 1.5.

    sigma (where not given) is a tenth of the data's root mean square. The posterior is the dense linear-Gaussian one.

    Raises (when a problem is made): DTypeError: no linear operator. InputError: more than 4096 real components.
    """

    def make(rng: torch.Generator) -> Case:
        op = build(target, rng)
        op = op.take([0]) if op.n_problems > 1 else op
        _check(op)
        domain = op.domain
        wide = torch.complex128 if domain == "complex" else torch.float64
        size = math.prod(op.domain_shape)
        turn, _ = torch.linalg.qr(normal((size, size), wide, rng))
        variances = torch.linspace(0.1, 1.5, size, dtype=torch.float64) if size > 1 else torch.ones(1).double()
        spread = (turn * variances) @ turn.mH
        if op.support is not None:  # where x is known to be zero the prior says so too
            inside = torch.broadcast_to(op.support.cpu(), op.domain_shape).reshape(-1).to(wide)
            spread = inside[:, None] * spread * inside
        prior = GaussianPrior(torch.zeros(op.domain_shape, dtype=wide.to_real()).float(), spread, domain)
        x = prior.sample(1, rng)
        clean = op.forward(x)
        level = float(0.1 * (clean.abs() ** 2).sum().div(op.size * (2 if clean.is_complex() else 1)).sqrt())
        noise = Gaussian(sigma if sigma is not None else level)
        y = noise.sample(clean, rng)[0]
        y = y if op.range_mask is None else y * op.range_mask
        return _gaussian(type(op).__name__, prior, Measurement(y, op, noise))

    return make


def _check(op: Operator) -> None:
    if not isinstance(op, LinearOperator):
        raise DTypeError(
            f"{op!r} is nonlinear: an exact posterior is known for linear operators (see --suite nonlinear)"
        )
    parts = [
        math.prod(shape) * (2 if kind == "complex" else 1)
        for shape, kind in ((op.domain_shape, op.domain), (op.range_shape, op.range))
    ]
    if max(parts) > MOST:
        raise InputError(
            f"{op!r} has {max(parts)} real components; a dense posterior is made up to {MOST}: let `example` be smaller"
        )


def _gaussian(name: str, prior: GaussianPrior, measurement: Measurement) -> Case:
    exact = posterior(prior, measurement)
    basis, ratios = gaussian_directions(exact, _real_covariance(prior.variances, prior.directions))
    centre = components(exact.mean[None])

    def directions(x: Tensor) -> Tensor:
        return (components(x) - centre) @ basis

    law = Marginals(torch.ones(1, dtype=torch.float64), torch.zeros(1, len(ratios)).double(), ratios.sqrt()[None])
    chi2 = expected_chi2(exact, measurement)
    facts = {"sigma": measurement.noise.sigma}  # type: ignore[attr-defined]
    return Case(name, prior, measurement, exact, directions, law, ratios < 0.1, chi2, facts=facts)
