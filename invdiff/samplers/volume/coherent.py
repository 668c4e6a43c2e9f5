"""Noise that the slices of a volume have in common, under any sampler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from invdiff.errors import UnknownNameError
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import Sampler
from invdiff.samplers.volume.admm import slice_axis
from invdiff.solvers.base import State

__all__ = ["Coherent", "SliceNoise"]

KINDS = ("shared", "slerp")


class SliceNoise(Streams):
    """Standard normal numbers that go together along one axis; each slice's are white and of variance 1.

    ``shared``: the same in all slices (Kwon and Ye, 2024). ``slerp``: with anchors ``z1``, ``z2`` drawn anew each time,
    W the angle between them and ``a = s/(S - 1)``, slice s has ``(sin((1 - a) W) z1 + sin(a W) z2)/sin W`` (Du et al.,
    2026, arXiv 2602.04162): the correlation of two slices is ``cos((a - a') W)``, and W is nearly pi/2.

    Args:
        streams: where the numbers come from. axis: of the batch. kind: see above.
    """

    def __init__(self, streams: Streams, axis: int, kind: str) -> None:
        if kind not in KINDS:
            raise UnknownNameError(f"slice noise {kind!r}; known: {', '.join(KINDS)}")
        self.device, self.generators, self.axis, self.kind = streams.device, streams.generators, axis, kind

    def normal(self, like: Tensor) -> Tensor:
        """Numbers of the shape, dtype and device of `like`, slices along the axis."""
        n = like.shape[self.axis]
        if self.kind == "shared" or n < 2:
            one = super().normal(like.narrow(self.axis, 0, 1))
            return one.expand(like.shape).contiguous()
        first, last = super().normal(like.narrow(self.axis, 0, 2)).split(1, self.axis)
        angle = torch.arccos(_cosine(first, last)).reshape(-1, *(1,) * (like.ndim - 1))
        a = torch.linspace(0, 1, n, device=like.device, dtype=angle.dtype)
        a = a.reshape([n if i == self.axis else 1 for i in range(like.ndim)])
        here, there = torch.sin((1 - a) * angle) / torch.sin(angle), torch.sin(a * angle) / torch.sin(angle)
        straight = torch.sin(angle) < 0.1  # slices of so few pixels that two may point the same way or against
        out = torch.where(straight, 1 - a, here) * first + torch.where(straight, a, there) * last
        return out.to(like.dtype)


class Coherent:
    """A sampler whose noise goes together along the slices of its prior; without slices, the sampler as it is.

    The volume then starts from, and is shaken by, far fewer random numbers than it has voxels: the draws are smooth
    across slices, but how much they differ from each other says little about the posterior.
    """

    def __init__(self, inner: Sampler, kind: str) -> None:
        if kind not in KINDS:
            raise UnknownNameError(f"slice noise {kind!r}; known: {', '.join(KINDS)}")
        self.inner, self.kind = inner, kind
        self.name, self.exact_for = f"{inner.name}-{kind}", "none"
        self.unit, self.uses_vjp, self.counts = inner.unit, inner.uses_vjp, inner.counts
        self.nfe, self.solver = getattr(inner, "nfe", None), getattr(inner, "solver", None)

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield the inner sampler's states."""
        axis = slice_axis(prior)
        noise = rng if axis is None else SliceNoise(rng, axis, self.kind)
        return self.inner.steps(prior, measurement, like, noise, resume)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    flat = [torch.view_as_real(v).flatten(1) if v.is_complex() else v.flatten(1) for v in (a, b)]
    product: Sequence[Tensor] = [(flat[i] * flat[j]).sum(1) for i, j in ((0, 1), (0, 0), (1, 1))]
    return (product[0] / (product[1] * product[2]).sqrt()).clamp(-1, 1)
