"""What the penalised reconstructions share: the image's size in the data's own terms, and its real planes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import NormalEquations
from invdiff.linalg import inner, power_norm
from invdiff.measurement import Measurement

__all__ = ["Problem", "planes", "unplanes"]


class Problem:
    """The term ``f(x) = |y - A x|^2_{S^-1} / 2`` of a linear measurement with Gaussian noise S, and the scale of x.

    ``scale`` (one number per problem) is the typical magnitude s of the image, so that a penalty's strength is a
    pure number: with ``start = t A^H S^-1 y``, t the step that minimises f along this direction,
    ``s^2 = sum|start|^4 / sum|start|^2``, the mean square magnitude where the energy is.

    Raises:
        InputError: the operator is nonlinear, the noise is not Gaussian, the data see nothing (``A^H y = 0``), or
            the strength or the number of iterations is out of range.
    """

    def __init__(self, measurement: Measurement, strength: float, iterations: int, method: str) -> None:
        if not 0 < strength < math.inf or iterations < 1:
            raise InputError(
                f"{method} got strength = {strength} and iterations = {iterations}; it expects a finite strength"
                " above 0 and at least 1 iteration"
            )
        equations = NormalEquations(measurement, method)
        self.precision, self.information = equations.precision, equations.information
        b = self.information
        energy = inner(b, b)
        if not bool((energy > 0).all()):
            raise InputError(f"{method} got data that see no image: A^H y is zero")
        step = energy / inner(b, self.precision(b))
        self.start = step.to(b.real.dtype).reshape(-1, *(1,) * (b.ndim - 1)) * b
        power = self.start.abs().to(energy.dtype).square().flatten(1)
        self.scale = (power.square().sum(1) / power.sum(1)).sqrt()

    def lipschitz(self) -> Tensor:
        """Largest curvature of f, from below and to a few percent, shape ``(N,)``."""
        return power_norm(self.precision, self.information, iterations=8)


def planes(x: Tensor) -> Tensor:
    """Real and imaginary part (or the real values) on an axis after the batch: ``(N, 2 or 1, *event)``, contiguous."""
    return torch.view_as_real(x).movedim(-1, 1).contiguous() if x.is_complex() else x[:, None].contiguous()


def unplanes(x: Tensor) -> Tensor:
    """Undo `planes`."""
    return torch.view_as_complex(x.movedim(1, -1).contiguous()) if x.shape[1] == 2 else x[:, 0]
