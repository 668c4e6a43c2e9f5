"""Tikhonov-regularised least squares by conjugate gradients, the classical parallel-imaging reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.baselines.problem import Problem
from invdiff.linalg import cg
from invdiff.measurement import Measurement

__all__ = ["cg_sense"]


def cg_sense(measurement: Measurement, strength: float, iterations: int = 50) -> Tensor:
    """Minimise ``|y - A x|^2 / (2 sigma^2) + strength |x|^2 / (2 s^2)``.

    It is the most probable image under a white Gaussian prior of standard deviation ``s / sqrt(strength)`` per real
    component; s is the image scale of `invdiff.baselines.problem.Problem`.

    Args:
        measurement: linear operator, Gaussian noise; real or complex.
        strength: dimensionless, above 0; for images of the order of 10, because little of their energy is in the
            details that the data leave open.
        iterations: conjugate-gradient steps, from zero.

    Returns:
        x, shape ``(1, *domain_shape)`` (``(problems, ...)`` where batched).

    Raises:
        InputError: as `Problem` says.

    Source: K. P. Pruessmann et al., Magn. Reson. Med. 46 (2001).
    """
    with torch.inference_mode():
        problem = Problem(measurement, strength, iterations, "cg_sense")
        b = problem.information
        weight = (strength / problem.scale**2).to(b.real.dtype).reshape(-1, *(1,) * (b.ndim - 1))
        return cg(lambda x: problem.precision(x) + weight * x, b, iterations=iterations)
