"""Any density in one or two dimensions, tabulated on a grid: posterior means by quadrature.

``E[x0 | x] = sum_g p_g x_g N(x; x_g, sigma^2) / sum_g p_g N(x; x_g, sigma^2)`` and the covariance likewise. Sums over a
uniform grid of spacing h converge as ``exp(-2 pi^2 sigma^2 / h^2)``, so they are exact to 1e-8 from sigma = h on, the
smallest level that is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.priors.base import Prior

__all__ = ["QuadraturePrior"]


class QuadraturePrior(Prior):
    """A real vector of one or two components with a tabulated density.

    Args:
        axes: one or two uniform, ascending grids of coordinates.
        log_density: ``log p`` on the grid, up to a constant, shape ``(len(axes[0]),)`` or ``(n0, n1)``; it must have
            fallen to nothing at the edges. -inf is allowed.

    Raises:
        ShapeError: the table does not fit the axes. InputError: a grid that is not uniform, NaN, or a density that is
        zero everywhere.
    """

    sample_shape: tuple[int, ...]

    def __init__(self, axes: Sequence[Tensor], log_density: Tensor) -> None:
        self.axes = [axis.to(torch.float64) for axis in axes]
        sizes = tuple(len(axis) for axis in self.axes)
        if len(sizes) not in (1, 2) or tuple(log_density.shape) != sizes:
            raise ShapeError(
                f"QuadraturePrior got axes of {sizes} and a table of {tuple(log_density.shape)}; 1 or 2 axes"
            )
        for axis in self.axes:
            steps = axis.diff()
            if (
                len(axis) < 3
                or not bool((steps > 0).all())
                or not torch.allclose(steps, steps[:1], rtol=1e-6, atol=0.0)
            ):
                raise InputError("QuadraturePrior expects ascending, uniform grids of at least 3 coordinates")
        table = log_density.to(torch.float64)
        if bool(torch.isnan(table).any()) or not bool(torch.isfinite(table.max())):
            raise InputError("QuadraturePrior got a density that is NaN, infinite or zero everywhere")
        self.table = torch.exp(table - table.max())
        self.table = self.table / self.table.sum()
        self.spacing = [float(axis[1] - axis[0]) for axis in self.axes]
        self.sample_shape = (len(sizes),)
        self.scale = float(torch.stack([self._moment(k) for k in range(len(sizes))]).mean().sqrt())
        self.sigma_min, self.sigma_max = max(self.spacing), 40 * self.scale

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x]`` for x ``(N, d)``, sigma ``(1,)`` or ``(N,)``, at or above `sigma_min`."""
        first, _ = self._moments(x, sigma)
        return first.to(x.dtype)

    def covariance(self, x: Tensor, sigma: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``v -> Cov[x0 | x] v`` for v ``(N, d)``: sigma^2 times the denoiser's Jacobian."""
        first, second = self._moments(x, sigma)
        matrix = second - first[:, :, None] * first[:, None]
        return lambda v: (matrix @ v.to(matrix.dtype)[..., None])[..., 0].to(v.dtype)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n draws ``(n, d)``, single precision: a cell of the grid, and a place in it, uniform."""
        return draw(self.axes, self.table, n, rng).float()

    def _moment(self, k: int) -> Tensor:
        other = tuple(i for i in range(self.table.ndim) if i != k)
        mass = self.table.sum(other) if other else self.table
        mean = (mass * self.axes[k]).sum()
        return (mass * (self.axes[k] - mean) ** 2).sum()

    def _moments(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """First and second moments of x0 given x, ``(N, d)`` and ``(N, d, d)``, float64."""
        wide, level = x.to(torch.float64), sigma.to(x.device, torch.float64).reshape(-1, 1)
        axes = [axis.to(x.device) for axis in self.axes]
        table = self.table.to(x.device)
        # The kernel is a product over axes, so a sum over the grid is two small matrix products.
        logs = [-0.5 * ((wide[:, k : k + 1] - axis) / level) ** 2 for k, axis in enumerate(axes)]
        kernels = [torch.exp(log - log.max(1, keepdim=True).values.detach()) for log in logs]
        if len(axes) == 1:
            mass = kernels[0] * table
            total = mass.sum(1).clamp_min(1e-300)
            first = (mass @ axes[0] / total)[:, None]
            return first, (mass @ axes[0] ** 2 / total)[:, None, None]
        inner = kernels[0] @ table  # (N, n1)
        moved = kernels[0] @ (axes[0][:, None] * table)
        total = (inner * kernels[1]).sum(1).clamp_min(1e-300)
        a, b = kernels[1] * axes[1], kernels[1] * axes[1] ** 2
        first = torch.stack([(moved * kernels[1]).sum(1), (inner * a).sum(1)], 1) / total[:, None]
        squares = ((kernels[0] @ (axes[0][:, None] ** 2 * table)) * kernels[1]).sum(1), (inner * b).sum(1)
        cross = (moved * a).sum(1)
        rows = [torch.stack([squares[0], cross], 1), torch.stack([cross, squares[1]], 1)]
        return first, torch.stack(rows, 1) / total[:, None, None]


def draw(axes: Sequence[Tensor], table: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Draw cells ``(n, d)`` float64 from a table of probabilities, and a uniform place in each."""
    index = torch.searchsorted(
        table.flatten().cumsum(0), torch.rand(n, generator=rng, dtype=torch.float64).to(table.device)
    ).clamp_max(table.numel() - 1)
    places = torch.unravel_index(index, table.shape)
    jitter = torch.rand(n, len(axes), generator=rng, dtype=torch.float64) - 0.5
    steps = torch.stack([axis[1] - axis[0] for axis in axes])
    return torch.stack([axis[i] for axis, i in zip(axes, places, strict=True)], 1) + jitter * steps
