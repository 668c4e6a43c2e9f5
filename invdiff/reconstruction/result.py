"""What a reconstruction is: draws, what they were made from, and what stands beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.posterior import Posterior
from invdiff.trust.predictive import predictive_chi2

__all__ = ["Reconstruction", "misfit", "single"]


@dataclass
class Reconstruction:
    """What `reconstruct` made.

    Attributes:
        posterior: the draws; a single one, without a spread, of a classical method.
        measurement: what they were made from: everything, or what was not held out.
        baselines: classical reconstructions ``(problems, *event)`` by name.
        figures: numbers to report, nested as in the JSON file.
        truth: what it was scored against, ``(problems, *event)``.
    """

    posterior: Posterior
    measurement: Measurement
    baselines: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    truth: Tensor | None = None

    def draws(self) -> Tensor:
        """The draws ``(draws, problems, *event)``."""
        x = torch.from_numpy(self.posterior.draws.values)
        return x if self.measurement.batched else x[:, None]

    def mean(self) -> Tensor:
        """The posterior mean ``(problems, *event)``."""
        x = torch.from_numpy(self.posterior.mean().values)
        return x if self.measurement.batched else x[None]

    def residual(self) -> NDArray[np.float32]:
        """`misfit` of the middle problem."""
        middle = self.measurement.n_problems // 2
        return misfit(self.measurement.take([middle]), self.draws()[:, middle : middle + 1])[0]


def misfit(measurement: Measurement, draws: Tensor) -> NDArray[np.float32]:
    """Root mean square of ``(y - A x) / sigma`` over draws and coils, per real component, NaN where not measured.

    It is about 1 where the draws explain the data to the noise.

    Args:
        measurement: one problem or several.
        draws: ``(draws, problems, *event)``.

    Returns:
        ``(problems, *range_shape)``, without the coils of complex data.
    """
    coils = measurement.y.is_complex() and len(measurement.operator.range_shape) > 2
    found = []
    for p in range(measurement.n_problems):
        one = measurement.take([p])
        square = predictive_chi2(one, draws[:, p : p + 1] if one.batched else draws[:, p])[0]
        found.append((square.mean(0) if coils else square).sqrt().float().numpy())
    return np.stack(found)


def single(measurement: Measurement, x: Tensor) -> Posterior:
    """One image per problem as a Posterior: its mean is the image, and of the spread it says nothing."""
    problems = range(measurement.n_problems)
    with torch.inference_mode():
        chi2 = [float(measurement.take([p]).chi2(x[p : p + 1])) for p in problems]
    mean = sum(chi2) / len(chi2)
    return Posterior.from_draws(
        x[None] if measurement.batched else x,
        coords=measurement.coords,
        attrs={"operator": repr(measurement.operator), **measurement.attributes()},
        diagnostics={"nfe": 0, "chi2": mean, "chi2_ratio": mean / measurement.count},
        batched=measurement.batched,
    )
