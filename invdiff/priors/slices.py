"""A prior of images as a prior of volumes: every slice on its own, in chunks that fit memory."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from invdiff.errors import InputError, ShapeError
from invdiff.priors.base import Prior

__all__ = ["SlicePrior", "on_slices"]

_PER_PIXEL, _WITH_GRADIENT = 250, 1500  # numbers that a network keeps for a pixel while it denoises
_VOLUMES = 16  # of the size of x: what sampler, solver and projector hold at their worst
_PROCESS = 700 << 20  # interpreter and libraries
_MOST = 64  # slices at once; more are not faster


class SlicePrior(Prior):
    """``p(x) = prod_s p(slice s of x)``: a prior of images on the slices of a volume ``(C, z, y, x)``.

    Slices are independent: nothing is said of how x changes from one to the next. That is for the data, for a volume
    sampler (`invdiff.samplers.volume`) or for `invdiff.priors.blended.Blended`.

    Where a gradient is taken, slices in chunks go through the network once more for each gradient: so much memory is
    saved, and so many evaluations are not in `nfe`.

    Args:
        plane: prior of one slice, ``(C, height, width)``.
        axis: of the event after its channels, along which slices follow each other: 0 for z, or for time.
        chunk: slices that go through `plane` at once; None for all.

    Raises:
        InputError: axis or chunk out of range.
    """

    def __init__(self, plane: Prior, axis: int = 0, chunk: int | None = None) -> None:
        if axis < 0 or (chunk is not None and chunk < 1):
            raise InputError(f"SlicePrior got axis = {axis}, chunk = {chunk}; expected axis >= 0 and chunk >= 1")
        self.plane, self.axis, self.chunk = plane, axis, chunk
        self._adopt()

    def _adopt(self) -> None:
        plane = self.plane
        self.domain, self.units, self.scale = plane.domain, plane.units, plane.scale
        self.sigma_min, self.sigma_max = plane.sigma_min, plane.sigma_max

    def along(self, axis: int, shape: tuple[int, ...]) -> SlicePrior:
        """The same prior on the slices of x, of that shape, along another axis, as many pixels at once."""
        out = self._with(axis=axis)
        if self.chunk is not None:
            at_once = self.chunk * math.prod(self._slice(shape)[1:])
            out.chunk = max(1, at_once // math.prod(out._slice(shape)[1:]))
        return out

    def fitted(self, shape: tuple[int, ...], memory: int, *, gradient: bool = False, beside: int = 0) -> SlicePrior:
        """The same prior with as many slices at once as fit `memory` bytes beside what else a run holds.

        Args:
            shape: of x. memory: bytes. gradient: whether the network's gradient is taken. beside: bytes that are held
                beside one x in the making, see `invdiff.units.held_beside`.

        Raises:
            InputError: not one slice fits; the message says how much is needed.
        """
        pixels, slices = math.prod(self._slice(shape)[1:]), shape[1 + self.axis]
        fixed = _PROCESS + beside + _VOLUMES * math.prod(shape) * (8 if self.domain == "complex" else 4)
        each = 4 * (_WITH_GRADIENT if gradient else _PER_PIXEL) * pixels
        if fixed + each > memory:
            need = (fixed + each) / 2**30
            raise InputError(
                f"memory is {memory / 2**30:.3g} GiB; a volume of {' x '.join(map(str, shape[1:]))} needs {need:.3g},"
                f" {beside / 2**30:.3g} of them for its data and draws"
            )
        return self._with(chunk=min(slices, _MOST, (memory - fixed) // each))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]`` for x ``(N, C, *spatial)``, slice by slice."""
        apart = x.movedim(2 + self.axis, 1)
        n, slices = apart.shape[:2]
        flat = apart.reshape(n * slices, *apart.shape[2:])
        levels = sigma if len(sigma) == 1 else sigma.repeat_interleave(slices)
        size = self.chunk or len(flat)
        # The network's graph of all slices fits no memory: each chunk's is built when its gradient is asked for.
        anew = size < len(flat) and torch.is_grad_enabled() and flat.requires_grad
        done = []
        for i in range(0, len(flat), size):
            part = flat[i : i + size], levels if len(levels) == 1 else levels[i : i + size]
            done.append(
                checkpoint(self.plane.denoise, *part, use_reentrant=False, preserve_rng_state=False)
                if anew
                else self.plane.denoise(*part)
            )
        out = done[0] if len(done) == 1 else torch.cat(done)
        return out.reshape(n, slices, *out.shape[1:]).movedim(1, 2 + self.axis).contiguous()

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """Accept events ``(C, *spatial)`` with three spatial axes, or two and time, whose slices `plane` accepts."""
        self.plane.check(self._slice(shape), domain)
        self._adopt()

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Return the prior on a device or in a precision."""
        return self._with(plane=self.plane.to(target))

    def describe(self) -> dict[str, Any]:
        """The inner prior's; the axis and, since they change the last bits, slices at once."""
        return {**self.plane.describe(), "slice_axis": self.axis, "slice_chunk": self.chunk or 0}

    def _with(self, **changed: Any) -> SlicePrior:
        out = copy.copy(self)
        vars(out).update(changed)
        out._adopt()
        return out

    def _slice(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 3 or self.axis > len(shape) - 2:
            raise ShapeError(f"the operator's x has shape {shape}; slices along axis {self.axis} need (C, *spatial)")
        return (*shape[: 1 + self.axis], *shape[2 + self.axis :])


def on_slices(
    prior: Prior, shape: tuple[int, ...], domain: str, memory: int, *, gradient: bool = False, beside: int = 0
) -> Prior:
    """Return a prior for events of that shape: one of images stands for the slices (along z) of a volume.

    Priors that accept the shape are returned as they are, but for the chunk of a `SlicePrior` without one, see its
    `fitted`.

    Raises:
        ShapeError, DTypeError: the prior fits neither x nor its slices. InputError: too little memory.
    """
    try:
        prior.check(shape, domain)
    except ShapeError:
        if len(shape) != 4 or isinstance(prior, SlicePrior):
            raise
        prior = SlicePrior(prior)
        prior.check(shape, domain)
    if isinstance(prior, SlicePrior) and prior.chunk is None:
        prior = prior.fitted(shape, memory, gradient=gradient, beside=beside)
    return prior
