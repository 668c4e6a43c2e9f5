"""Least squares by conjugate gradients, stopped early: the number of iterations is the regularisation."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.baselines.problem import Problem
from invdiff.linalg import cg
from invdiff.measurement import Measurement

__all__ = ["cgls"]


def cgls(measurement: Measurement, iterations: float = 20) -> Tensor:
    """Take some conjugate-gradient steps on ``A^H S^-1 A x = A^H S^-1 y`` from zero.

    Of all x in the Krylov space of that many steps it is the one of least ``|y - A x|^2_{S^-1}``; more steps follow
    finer detail and more noise.

    Args:
        measurement: linear operator, Gaussian noise of covariance S; real or complex.
        iterations: rounded, at least 1.

    Returns:
        x, shape ``(1, *domain_shape)`` (``(problems, ...)`` where batched).

    Raises:
        InputError: as `Problem` says.

    Source: C. C. Paige and M. A. Saunders, ACM Trans. Math. Softw. 8 (1982); early stopping: P. C. Hansen,
    Rank-Deficient and Discrete Ill-Posed Problems (1998), chapter 6.
    """
    steps = round(iterations)
    with torch.inference_mode():
        problem = Problem(measurement, 1.0, steps, "cgls")
        return cg(problem.precision, problem.information, iterations=steps)
