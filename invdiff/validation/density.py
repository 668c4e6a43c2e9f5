"""Posteriors of one or two numbers on a grid, whatever the prior's density, the operator and the noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.quadrature import QuadraturePrior, draw
from invdiff.validation.case import Case, Marginals

__all__ = ["GridPosterior", "density_case", "posterior"]


@dataclass(frozen=True)
class GridPosterior:
    """Probabilities of the cells of a grid.

    Args:
        axes: one or two grids. table: ``(n0,)`` or ``(n0, n1)``, of sum 1. log_evidence: ``log p(y)``.
    """

    axes: list[Tensor]
    table: Tensor
    log_evidence: float

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent draws, shape ``(n, d)``, float64."""
        return draw(self.axes, self.table, n, rng)

    @property
    def points(self) -> Tensor:
        """The grid's points, ``(cells, d)``."""
        return torch.stack(torch.meshgrid(*self.axes, indexing="ij"), -1).reshape(-1, len(self.axes))


def posterior(prior: QuadraturePrior, measurement: Measurement, cells: float = 30.0) -> GridPosterior:
    """Return ``p_g p(y | x_g)`` over its sum.

    Raises:
        InputError: fewer than `cells` cells share the posterior's mass, so the grid does not resolve it, or the
        measurement holds several problems.
    """
    if measurement.n_problems > 1:
        raise InputError(f"the measurement holds {measurement.n_problems} problems; take([i]) one of them")
    prior.check(measurement.operator.domain_shape, measurement.operator.domain)
    found = GridPosterior(prior.axes, prior.table, 0.0)
    logs = measurement.to(torch.float64).log_likelihood(found.points).reshape(prior.table.shape)
    joint = prior.table.log() + logs
    evidence = float(torch.logsumexp(joint.flatten(), 0))
    table = torch.exp(joint - evidence)
    effective = float(1 / (table**2).sum())
    if effective < cells:
        raise InputError(f"the posterior lies in {effective:.1f} cells of the grid, below {cells:g}: use a finer grid")
    return GridPosterior(prior.axes, table, evidence)


def laplace(scale: float = 1.0, cells: int = 2001) -> QuadraturePrior:
    """The Laplace density ``exp(-|x| / scale)``, cut at 20 scales."""
    x = torch.linspace(-20 * scale, 20 * scale, cells, dtype=torch.float64)
    return QuadraturePrior([x], -x.abs() / scale)


def ring(radius: float = 2.0, width: float = 0.25, cells: int = 241) -> QuadraturePrior:
    """A ring in the plane, ``exp(-(|x| - radius)^2 / (2 width^2))``."""
    x = torch.linspace(-2 * radius, 2 * radius, cells, dtype=torch.float64)
    r = (x[:, None] ** 2 + x**2).sqrt()
    return QuadraturePrior([x, x], -0.5 * ((r - radius) / width) ** 2)


def density_case(size: int, rng: torch.Generator, sigma: float | None = None) -> Case:
    """One number with a Laplace prior (`size` 1) or a point of a ring (2), seen along a random direction.

    sigma (where not given) is 0.2 to 1 prior deviations.
    """
    if size not in (1, 2):
        raise InputError(f"a density by quadrature has dimension 1 or 2, not {size}")
    prior = laplace() if size == 1 else ring()
    u = float(torch.rand(1, generator=rng, dtype=torch.float64))
    level = prior.scale * (0.2 + 0.8 * u) if sigma is None else sigma
    a = torch.randn(1, size, generator=rng, dtype=torch.float64)
    operator, noise = Matrix((a / torch.linalg.vector_norm(a)).float()), Gaussian(level)
    y = noise.sample(operator.forward(prior.sample(1, rng)), rng)[0]
    measurement = Measurement(y, operator, noise)
    exact = posterior(prior, measurement)
    row = operator.matrix.double()
    across = row.flip(1) * torch.tensor([[-1.0, 1.0]]) if size == 2 else row[:0]
    turn = torch.cat([row, across]).mT

    def directions(x: Tensor) -> Tensor:
        return x.to(torch.float64) @ turn

    law = Marginals.of_draws(directions(exact.points), exact.table.flatten())
    chi2 = float(exact.table.flatten() @ measurement.to(torch.float64).chi2(exact.points))
    seen = torch.arange(size) < 1
    name = f"density {size}-D"
    return Case(name, prior, measurement, exact, directions, law, seen, chi2, facts={"sigma": level})
