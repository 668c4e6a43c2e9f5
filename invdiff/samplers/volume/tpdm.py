"""TPDM: two priors of images on perpendicular slices, in turn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance, NormalEquations, spread2
from invdiff.guidance.dds import proximal
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.priors.slices import SlicePrior

__all__ = ["TPDM"]


_LEAST = 8  # pixels of an image that a network takes for one


class TPDM(Guidance):
    """``p(x) ~ prod_z p(x[z])^a prod_x p(x[:, :, x])^b`` by turns: every K-th step takes the slices of another axis.

    The data step is that of DDS on the denoised volume. The paper's own is the gradient of the misfit through the
    network (DPS) in a predictor-corrector of 2000 steps, and its K may be fractional (then by chance).

    Each axis sees its slices as a prior of images would, so structures agree along all of them without a penalty; the
    product counts what both priors know twice, which makes draws of volumes less spread than the posterior's.

    Args:
        every: K; 2 gives both axes as many steps.
        other: the second axis of slices, counted as the prior's; None for the one after next (sagittal beside axial).

    The same prior serves both axes. One that is not made of slices stands for all of x in every step.

    Source: Lee et al., 2023, arXiv 2303.08440, algorithm 1.
    """

    carries = 1

    def __init__(
        self, prior: Prior, measurement: Measurement, every: int = 2, other: int | None = None, iterations: int = 5
    ) -> None:
        super().__init__(prior, measurement)
        if every < 2 or iterations < 1:
            raise InputError(f"TPDM got every = {every}, iterations = {iterations}; expected at least 2 and 1")
        self.equations = NormalEquations(measurement, "TPDM")
        self.every, self.iterations = every, iterations
        self.begin()
        self.priors = (prior, prior)
        if isinstance(prior, SlicePrior):
            shape = tuple(measurement.operator.domain_shape)
            axis = (prior.axis + 2) % (len(shape) - 1) if other is None else other
            if axis == prior.axis:
                raise InputError(f"TPDM got axis {axis} twice; its slices run along two axes of x, of shape {shape}")
            second = prior.along(axis, shape)
            second.check(shape, measurement.operator.domain)
            if prior.plane.is_network and shape[1 + prior.axis] < _LEAST:
                raise InputError(
                    f"TPDM got {shape[1 + prior.axis]} slices: the second prior's images would be as many pixels wide,"
                    f" where a network expects {_LEAST} at least; take dds3d or slicewise"
                )
            self.priors = (prior, second)

    def begin(self) -> None:
        """Start with the first prior."""
        self.turn, self.level = 0, math.inf

    def carried(self) -> tuple[Tensor, ...]:
        """Return the number of levels done, and the last one."""
        return (torch.tensor([self.turn, self.level], dtype=torch.float64),)

    def restore(self, carried: tuple[Tensor, ...]) -> None:
        """Go on from it."""
        self.turn, self.level = int(carried[0][0]), float(carried[0][1])

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the data-consistent volume, denoised along the axis whose turn it is."""
        if sigma != self.level:  # solvers that evaluate a level twice stay with its prior
            self.turn, self.level = self.turn + 1, sigma
        self.prior = self.priors[self.turn % self.every == 0]
        return proximal(self.equations, self.denoise(x, sigma), spread2(self.prior, sigma), self.iterations)
