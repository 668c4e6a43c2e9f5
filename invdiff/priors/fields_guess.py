"""A denoiser of fields that starts from an exact Gaussian: the network learns what the Gaussian leaves.

    D(x, sigma) = G(x, sigma) + s(sigma) F(G, (x - G)/sigma, condition; sigma),   G = C (C + sigma^2)^-1 x,

where s(sigma)^2 is the mean variance that the Gaussian still gives x0 when x is known, so that F's target has about
unit variance at every noise level. F is 0 before training: D is then the exact Gaussian denoiser.

A covariance fitted to the very states that a network is trained on fits them too well, and what it leaves there is not
what it leaves elsewhere. So there may be several Gaussians, each fitted without one part of the states (cross-fitting):
the first channel of the condition says which one to use, 0 for that of all states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from invdiff.errors import InputError, ShapeError
from invdiff.priors.base import Prior
from invdiff.priors.fields_calendar import Calendar
from invdiff.priors.fields_gaussian import LowRankGaussian

__all__ = ["FieldsPrior", "FirstGuess"]


class FirstGuess(nn.Module):
    """``(x, sigma, condition) -> E[x0 | x]``; x ``(N, C, rows, columns)``, sigma ``(N,)``, condition ``(N, K, ...)``.

    Args:
        backbone: F: ``2 C + K - 1`` channels in, C out; None for the Gaussian alone.
        gaussians: the one of all states, then those for training.
        highest: noise level from which on the network is not asked.
    """

    def __init__(
        self, backbone: nn.Module | None, gaussians: Sequence[LowRankGaussian], highest: float = math.inf
    ) -> None:
        super().__init__()
        self.backbone, self.gaussians, self.highest = backbone, list(gaussians), highest
        self.sigma_data = self.gaussians[0].scale

    def first(self, x: Tensor, sigma: Tensor, which: Tensor | None = None) -> Tensor:
        """The Gaussian denoiser G; `which` ``(N,)`` names one for each, the first if not given."""
        if which is None or not bool(which.any()):
            return self.gaussians[0].denoise(x, sigma)
        out = torch.empty_like(x)
        for i in which.unique().tolist():
            rows = which == i
            out[rows] = self.gaussians[int(i)].denoise(x[rows], sigma.expand(len(x))[rows])
        return out

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """Return the denoised fields."""
        which = condition[:, 0].flatten(1)[:, 0].round().long()
        guess = self.first(x, sigma, which)
        if self.backbone is None or float(sigma.min()) > self.highest:
            return guess
        level = sigma.to(x).reshape(-1, 1, 1, 1)
        given = torch.cat([guess / self.sigma_data, (x - guess) / level, condition[:, 1:].to(x)], 1)
        raw = self.backbone(given, sigma.expand(len(x)).log() / 4)
        return guess + raw.to(x.dtype) * self.left(sigma).to(x).reshape(-1, 1, 1, 1)

    def left(self, sigma: Tensor) -> Tensor:
        """s(sigma), ``(N,)``."""
        kept, rest = self.gaussians[0].spread(sigma)
        size = math.prod(self.gaussians[0].sample_shape)
        return ((kept.sum(1) + (size - kept.shape[1]) * rest[:, 0]) / size).sqrt()

    def weight(self, sigma: Tensor) -> Tensor:
        """Loss weight ``1/s(sigma)^2``: the squared error of F."""
        return self.left(sigma) ** -2

    def level(self, time: Tensor) -> Tensor:
        """Sigma at a time from 0 to 1: ``s tan(pi t/2)``."""
        return self.sigma_data * torch.tan(0.5 * math.pi * time)


class FieldsPrior(Prior):
    """Windows of standardised anomalies ``(offsets x channels, rows, columns)``, whose Gaussian part is known.

    Args:
        network: D.
        calendar: makes what it is told of the time, and says what is normal then.
        sigma_min, sigma_max: the range the network was trained for; beyond sigma_max D is the Gaussian denoiser.
        card: what is known of the weights.
        times: of the windows: one, or one for each row of a batch; `at` sets them.
    """

    is_network = True
    domain = "real"

    def __init__(
        self,
        network: FirstGuess,
        calendar: Calendar,
        sigma_min: float,
        sigma_max: float,
        card: dict[str, Any] | None = None,
        times: NDArray[np.datetime64] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.calendar, self.card = calendar, dict(card or {})
        self.gaussian = network.gaussians[0]
        self.sample_shape, self.scale = self.gaussian.sample_shape, self.gaussian.scale
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.condition = None if times is None else calendar.condition(times)

    def at(self, times: NDArray[np.datetime64]) -> FieldsPrior:
        """The same prior of windows about one time, or about one time for each row of a batch."""
        return FieldsPrior(self.network, self.calendar, self.sigma_min, self.sigma_max, self.card, times)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x]``.

        Raises:
            InputError: no time was set. ShapeError: there are as many times as rows of another batch.
        """
        told = self.condition
        if told is None:
            raise InputError("this prior depends on the time of day and year; set it with at(times)")
        if len(told) not in (1, len(x)):
            raise ShapeError(f"the prior is told {len(told)} times and got {len(x)} fields; expected one for each")
        out: Tensor = self.network(x, sigma.to(x), told.to(x).expand(len(x), *told.shape[1:]))
        return out

    def covariance(self, x: Tensor, sigma: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``v -> Cov[x0 | x] v`` of the Gaussian part: what the network explains besides is still in it."""
        return self.gaussian.covariance(x, sigma)

    def to(self, target: torch.device | str | torch.dtype) -> FieldsPrior:
        """Move the network (in place) and return the prior."""
        self.network.to(target)
        self.network.gaussians = [g.to(target) for g in self.network.gaussians]
        self.gaussian = self.network.gaussians[0]
        self.calendar = self.calendar.to(target)
        self.condition = None if self.condition is None else self.condition.to(target)
        return self

    def describe(self) -> dict[str, Any]:
        """Name and hash of the weights."""
        return {"prior": self.card.get("name", "fields"), "prior_sha256": self.card.get("sha256", "")}
