"""Several measurements of one x as one: each instrument keeps its own operator, data and noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.algebra import stack

__all__ = ["join"]


def join(measurements: Sequence[Measurement]) -> Measurement:
    """Return one measurement of the stacked data, with a standard deviation for each datum.

    Coordinates are the first's (all describe the same x); `meta` keeps each one's under ``"instruments"``.

    Raises:
        InputError: there is none, or one's noise is not Gaussian. ShapeError: they differ in the domain or in being
            batched.
    """
    if not measurements:
        raise InputError("join got no measurements; it expects at least one")
    first = measurements[0]
    if any(m.batched != first.batched or m.n_problems != first.n_problems for m in measurements):
        raise ShapeError("join got measurements that differ in the number of problems; give all the same")
    sigmas, data = [], []
    for m in measurements:
        if not isinstance(m.noise, Gaussian):
            raise InputError(f"join got noise of type {type(m.noise).__name__}; it expects Gaussian noise throughout")
        sigma = torch.as_tensor(m.noise.sigma, dtype=m.y.real.dtype, device=m.y.device)
        each = sigma.ndim > len(m.operator.range_shape)  # one for every problem
        shape = (m.n_problems, *m.operator.range_shape) if each else (1, *m.operator.range_shape)
        sigmas.append(sigma.expand(shape).flatten(1))
        data.append(m.data.flatten(1))
    problems = max(len(s) for s in sigmas)
    sigma = torch.cat([s.expand(problems, -1) for s in sigmas], 1)
    y = torch.cat(data, 1)
    return Measurement(
        y if first.batched else y[0],
        stack([m.operator for m in measurements]),
        Gaussian(sigma if problems > 1 else sigma[0]),
        first.coords,
        {"instruments": [m.meta for m in measurements]},
        first.batched,
    )
