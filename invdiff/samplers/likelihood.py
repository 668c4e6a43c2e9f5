"""The likelihood step of the split methods: a draw of ``z ~ p(y | z) N(z; x, rho^2 I)``."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import NormalEquations
from invdiff.linalg import cg, inner
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.random import Streams
from invdiff.samplers.mala import mala

__all__ = ["LikelihoodStep"]


class LikelihoodStep:
    """Draws from ``p(y | z) exp(-|z - x|^2 / (2 rho^2))``, each example of a batch on its own.

    Linear operator and Gaussian noise: exact, by perturbing the data and solving. With ``N = A^H S^-1 A`` and
    ``b = A^H S^-1 y``,

        ``(I + rho^2 N)(z - x) = rho^2 (b - N x + A^H S^-1/2 n1) + rho n2``,   n1, n2 standard normal,

    which gives z the mean and the covariance ``(N + I/rho^2)^-1`` wanted (Papandreou and Yuille, 2010). Otherwise, for
    any differentiable operator and noise: Metropolis-adjusted Langevin steps from x.

    Args:
        measurement: data, operator and noise.
        solve: most conjugate-gradient steps; they end at a relative residual of 1e-6.
        moves: Langevin steps.

    Raises:
        InputError: solve or moves is below 1.
    """

    def __init__(self, measurement: Measurement, solve: int = 50, moves: int = 100) -> None:
        if solve < 1 or moves < 1:
            raise InputError(f"the likelihood step got solve = {solve}, moves = {moves}; expected at least 1 of each")
        self.measurement, self.solve, self.moves = measurement, solve, moves
        linear = isinstance(measurement.operator, LinearOperator) and isinstance(measurement.noise, Gaussian)
        self.equations = NormalEquations(measurement, "the exact step") if linear else None

    def __call__(self, x: Tensor, rho: float, rng: Streams) -> Tensor:
        """Return z for x ``(N, *event)``."""
        if self.equations is not None:
            return self._exact(self.equations, x, rho, rng)
        return mala(lambda z: self._log_density(z, x, rho), x, rng, self.moves, rho)

    def _exact(self, equations: NormalEquations, x: Tensor, rho: float, rng: Streams) -> Tensor:
        op, weight = equations.op, equations.weight
        n1 = rng.normal(self.measurement.data.new_empty(x.shape[0], *op.range_shape))
        root = weight**0.5 if isinstance(weight, float) else weight.sqrt()
        noise = op.adjoint(root * n1)
        if equations.outside is not None:  # x = 0 there is one more datum a pixel
            noise = noise + equations.outside.sqrt() * rng.normal(x)
        rhs = rho**2 * (equations.information - equations.precision(x) + noise) + rho * rng.normal(x)
        step = cg(lambda d: d + rho**2 * equations.precision(d), rhs, iterations=self.solve, tolerance=1e-6)
        return x + step

    def _log_density(self, z: Tensor, x: Tensor, rho: float) -> Tensor:
        gap = z - x
        log_likelihood = self.measurement.log_likelihood(z)
        if self.measurement.operator.support is not None:
            outside = z * ~self.measurement.operator.support
            gap = torch.cat([gap.flatten(1), 10 * outside.flatten(1)], 1)  # held near zero
        return log_likelihood - (inner(gap, gap) / (2 * rho**2)).to(log_likelihood.dtype)
