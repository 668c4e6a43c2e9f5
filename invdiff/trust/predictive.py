"""The posterior-predictive chi2, datum by datum: where the draws miss the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.measurement import Measurement
from invdiff.posterior import Posterior

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["attach_predictive_chi2", "predictive_chi2"]


def predictive_chi2(measurement: Measurement, draws: Tensor) -> Tensor:
    """``mean over draws of |y - A x|^2 / sigma^2`` per real component of each datum.

    Its expectation is 1 for draws of the exact posterior, over data and images of the prior. The value of a single
    datum scatters widely about that (with one draw as chi2 with one degree of freedom, two for complex data): look
    for regions.

    Args:
        measurement: one problem or several.
        draws: ``(draws, *domain_shape)``, or ``(draws, problems, *domain_shape)`` for several problems.

    Returns:
        Shape ``(problems, *range_shape)``, NaN where nothing was measured.

    Raises:
        ShapeError: the draws do not fit.
    """
    op = measurement.operator
    if not measurement.batched:
        draws = draws[:, None]
    expected = (measurement.n_problems, *op.domain_shape)
    if tuple(draws.shape[1:]) != expected:
        raise ShapeError(f"draws have shape {tuple(draws.shape)}; this measurement expects (draws, {expected})")
    total = torch.zeros(measurement.data.shape, dtype=torch.float64)
    with torch.inference_mode():
        for x in draws:
            r = measurement.noise.whiten(measurement.residual(x.to(measurement.y.device)))
            total += (r.abs() ** 2).double().cpu()
    out = total / (len(draws) * (2 if measurement.y.is_complex() else 1))
    if op.range_mask is not None:
        out = out.masked_fill(~op.range_mask.cpu(), torch.nan)
    return out


def attach_predictive_chi2(posterior: Posterior, measurement: Measurement) -> xr.DataArray:
    """Add the map to the posterior as the variable ``predictive_chi2``, axes ``datum_0, datum_1, ...``; return it.

    Draws in which a log-weight is stored count equally here. `Posterior.save` keeps the map.
    """
    import xarray as xr

    values = predictive_chi2(measurement, torch.from_numpy(posterior.draws.values))
    values = values if measurement.batched else values[0]
    lead = ("problem",) if measurement.batched else ()
    dims = (*lead, *(f"datum_{k}" for k in range(values.ndim - len(lead))))
    posterior.dataset["predictive_chi2"] = xr.DataArray(values.numpy(), dims=dims)
    return posterior.dataset["predictive_chi2"]
