"""What fields were reconstructed with before: bicubic, kriging, and the exact posterior of one Gaussian a state.

Every method takes anomalies from the training weeks' mean by hour of the day, and gives mean and standard deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.metrics.ensemble import crps_gaussian
from invdiff.priors.fields_gaussian import gaspari_cohn, great_circle


class Source(NamedTuple):
    """Instruments: matrix of their data ``(m, points)``, errors ``(m,)``, and the side of the coarse field in cells."""

    matrix: Tensor
    sigma: Tensor
    coarse: int = 0


@dataclass
class Grid:
    """Distances between all points in km, and the shape ``(rows, columns)``."""

    distance: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, latitude: Tensor, longitude: Tensor) -> Grid:
        lat, lon = torch.meshgrid(latitude, longitude, indexing="ij")
        return cls(great_circle(lat.flatten(), lon.flatten()), (len(latitude), len(longitude)))


def condition(
    covariance: Tensor, source: Source, y: Tensor, sites: Tensor, unknown_mean: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean ``(T, points)`` and standard deviations, at the points and of `sites` of them, given data ``(T, m)``.

    With an unknown mean, the same everywhere, this is ordinary kriging: the mean has a variance of a thousand times the
    field's.
    """
    c = covariance + (1e3 * covariance.diagonal().mean() if unknown_mean else 0.0)
    cross = c @ source.matrix.mT
    gain = torch.linalg.solve(source.matrix @ cross + torch.diag(source.sigma**2), cross.mT).mT
    at = ((sites @ c) * sites).sum(1) - ((sites @ gain) * (sites @ cross)).sum(1)
    own = c.diagonal() - (gain * cross).sum(1)
    return y @ gain.mT, own.clamp_min(1e-6).sqrt(), at.clamp_min(1e-6).sqrt()


def bicubic(source: Source, y: Tensor, normal: Tensor, grid: Grid) -> Tensor:
    """Cubic interpolation of the coarse field itself, data plus what is normal there: ``(T, points)``."""
    f = source.coarse
    rows, columns = grid.shape[0] // f, grid.shape[1] // f
    cells = (y + normal @ source.matrix.mT)[:, : rows * columns].reshape(-1, 1, rows, columns)
    fine = torch.nn.functional.interpolate(cells, size=grid.shape, mode="bicubic", align_corners=False)
    return fine.flatten(1) - normal


def kriging_covariance(anomalies: Tensor, grid: Grid, seed: int = 0) -> tuple[Tensor, dict[str, float]]:
    """A stationary covariance fitted by maximum likelihood: variance, length (km), Matern 1/2, 3/2 or 5/2, nugget.

    The likelihood is that of 150 points at 60 times, six to twelve hours apart on average, taken as independent.
    """
    rng = torch.Generator().manual_seed(seed)
    points = torch.randperm(anomalies.shape[1], generator=rng)[:150]
    times = torch.linspace(0, len(anomalies) - 1, 60).long()
    x, d = anomalies[times][:, points], grid.distance[points][:, points]
    best: tuple[float, Tensor, dict[str, float]] = (math.inf, torch.empty(0), {})
    for kind in (0.5, 1.5, 2.5):
        log = torch.tensor([2 * math.log(float(x.std())), math.log(300.0), math.log(0.05)], dtype=torch.float64)
        log.requires_grad_(True)
        optimiser = torch.optim.LBFGS([log], max_iter=40, line_search_fn="strong_wolfe")

        def misfit(log: Tensor = log, kind: float = kind, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            value = _misfit(x, d, log, kind)
            value.backward()
            return value.detach()

        optimiser.step(misfit)
        score = float(misfit())
        if score < best[0]:
            variance, length, nugget = log.detach().exp().tolist()
            fitted = {"matern": kind, "std_K": variance**0.5, "length_km": length, "nugget_K": nugget**0.5}
            full = variance * _matern(grid.distance, length, kind)
            full.diagonal().add_(nugget)
            best = score, full, fitted
    return best[1], best[2]


def _misfit(x: Tensor, distance: Tensor, log: Tensor, kind: float) -> Tensor:
    variance, length, nugget = log.exp()
    c = variance * _matern(distance, length, kind) + nugget * torch.eye(len(distance), dtype=x.dtype)
    chol = torch.linalg.cholesky(c)
    white = torch.linalg.solve_triangular(chol, x.mT, upper=False)
    return 0.5 * white.square().sum() / len(x) + chol.diagonal().log().sum()


def _matern(distance: Tensor, length: Tensor | float, kind: float) -> Tensor:
    r = math.sqrt(2 * kind) * distance / length
    shape = {0.5: 1.0, 1.5: 1 + r, 2.5: 1 + r + r**2 / 3}[kind]
    return shape * torch.exp(-r)


def gaussian_covariance(
    train: Tensor, watch: Tensor, sources: dict[str, Source], noise: Tensor, grid: Grid
) -> tuple[Tensor, dict[str, float]]:
    """Empirical covariance, localised and shrunk, both chosen by the score of the days between training and test."""
    empirical = train.mT @ train / len(train)
    best: tuple[float, Tensor, dict[str, float]] = (math.inf, torch.empty(0), {})
    for reach in (800.0, 1200.0, 1600.0, 2400.0):
        localised = empirical * gaspari_cohn(grid.distance, reach)
        for shrink in (0.0, 0.01, 0.03):
            c = localised + shrink * torch.diag(empirical.diagonal())
            total = 0.0
            for source in sources.values():
                y = watch @ source.matrix.mT + source.sigma * noise[:, : len(source.sigma)]
                mean, std, _ = condition(c, source, y, source.matrix[:1])
                total += float(crps_gaussian(mean, std.expand_as(mean), watch).mean())
            if total < best[0]:
                best = total, c, {"reach_km": reach, "shrink": shrink}
    return best[1], best[2]
