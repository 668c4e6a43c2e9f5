"""Non-Cartesian multi-coil MRI, 2D or 3D, on any trajectory.

``y_{c,m} = (n_1 ... n_d)^(-1/2) sum_r s_c(r) x(r) exp(-2 pi i k_m . (r - n // 2))``, summed over several sets of maps
as in `invdiff.operators.mri.sense`, with which it agrees where the trajectory lies on the grid. With a field map each
pixel also turns by ``exp(-2 pi i f(r) t_m)``. `forward` and `adjoint` are non-uniform FFTs on the CPU; `normal`, which
is what iterations need, is a convolution by ordinary FFTs (`invdiff.operators.mri.toeplitz`) wherever x lives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.mri.coil_maps import canonical_maps, seen
from invdiff.operators.mri.nonuniform import canonical_trajectory, to_image, to_samples
from invdiff.operators.mri.offresonance import time_segments
from invdiff.operators.mri.toeplitz import convolve, fast_size, transfer

__all__ = ["NonCartesianMRI"]

_SAMPLED = 256 << 20  # bytes of coil images (in double precision) that are transformed together
_CONVOLVED = 2 << 20  # bytes of doubled grids worked on at a time, so that they stay in the cache
_ACCURACY = {torch.complex64: 1e-7, torch.complex128: 1e-13}
# Transfer functions of `normal`, made when first asked for: simulation and a single adjoint do without.
_TRANSFER: WeakKeyDictionary[NonCartesianMRI, dict[tuple[torch.dtype, torch.device], Tensor]] = WeakKeyDictionary()


class NonCartesianMRI(LinearOperator):
    """Samples of k-space anywhere: complex images ``(N, sets, *spatial)`` to ``(N, coils, samples)``.

    Args:
        coil_maps: complex, ``(coils, *spatial)``, ``(problems, coils, *spatial)`` or ``(problems, sets, coils,
            *spatial)``, spatial ``(H, W)`` or ``(D, H, W)``; kept in the last form.
        trajectory: ``(samples, dims)`` or ``(problems, samples, dims)``, cycles per pixel in [-1/2, 1/2], coordinates
            in the order of the axes of x. Grid index i of an axis of length n is at ``(i - n // 2) / n``.
        field_map: off-resonance in Hz, ``(*spatial)``, for all problems. None for none.
        times: of the samples in seconds, ``(samples,)``; needed with a field map.
        segments: of time, for the field map; None for the fewest with an error below 1e-4.
        accuracy: nominal relative error of the transform; None for 1e-7 with complex64 and 1e-13 with complex128
            images. `adjoint` is exact with respect to `forward` whatever it is; `normal` is within it.

    With P > 1 problems (in maps or trajectory) N must be P. Needs the extra `mri`, except for small problems. The
    transfer function of `normal` is found when it is first asked for and kept.

    Raises:
        ShapeError, DTypeError: an argument does not fit. InputError: NaN; a trajectory outside [-1/2, 1/2]; a field
            map without times; an accuracy that is not between 1e-14 and 0.1.
    """

    domain = range = "complex"

    def __init__(
        self,
        coil_maps: Tensor,
        trajectory: Tensor,
        field_map: Tensor | None = None,
        times: Tensor | None = None,
        segments: int | None = None,
        accuracy: float | None = None,
    ) -> None:
        self.trajectory = canonical_trajectory(trajectory, "NonCartesianMRI")
        axes = ("D", "H", "W")[-self.trajectory.shape[-1] :]
        self.coil_maps = canonical_maps(coil_maps, axes, "NonCartesianMRI")
        if accuracy is not None and not 1e-14 <= accuracy <= 0.1:
            raise InputError(f"NonCartesianMRI got accuracy = {accuracy}; it expects a number from 1e-14 to 0.1")
        counts = {len(self.coil_maps), len(self.trajectory)}
        if len(counts - {1}) > 1:
            raise ShapeError(
                f"NonCartesianMRI got coil_maps of {len(self.coil_maps)} problems and a trajectory of"
                f" {len(self.trajectory)}; they must agree, or one be 1"
            )
        self.accuracy, self.segments, self.n_problems = accuracy, segments, max(counts)
        self._off_resonance(field_map, times)
        self._refresh()

    def _off_resonance(self, field_map: Tensor | None, times: Tensor | None) -> None:
        spatial, samples = tuple(self.coil_maps.shape[3:]), self.trajectory.shape[1]
        self.field_map, self.times = field_map, times
        self._b: Tensor | None = None
        self._c: Tensor | None = None
        if field_map is None:
            if times is not None or self.segments is not None:
                raise InputError("NonCartesianMRI got times or segments without a field_map; give all or none")
            return
        if times is None or tuple(field_map.shape) != spatial or tuple(times.shape) != (samples,):
            found = None if times is None else tuple(times.shape)
            raise ShapeError(
                f"NonCartesianMRI got a field_map of shape {tuple(field_map.shape)} and times of shape {found}; it"
                f" expects {spatial} in Hz and ({samples},) in seconds"
            )
        inside = seen(self.coil_maps)
        if inside is not None:  # what no coil sees needs no segments
            inside = inside.reshape(-1, *spatial).any(0).to(field_map.device)
            field_map = torch.where(inside, field_map, field_map[inside].mean())
        self._b, self._c, _ = time_segments(field_map, times, self.segments)

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        # Positions and times stay in double precision on the CPU, where the transforms are made.
        return {"coil_maps": self.coil_maps}

    def _refresh(self) -> None:
        _, sets, coils, *spatial = self.coil_maps.shape
        self.domain_shape, self.range_shape = (sets, *spatial), (coils, self.trajectory.shape[1])
        self.support = seen(self.coil_maps)

    def _forward(self, x: Tensor) -> Tensor:
        y = x.new_empty(x.shape[0], *self.range_shape)
        for n, s, points, c in self._pieces(x, _SAMPLED // 16 // math.prod(self.domain_shape[1:])):
            z = self._in_segments((s[:, c] * x[n][:, :, None]).sum(1))
            found = self._sampled(z.flatten(0, 2), points).unflatten(0, z.shape[:3])
            y[n, c] = (found if self._b is None else found * self._b.to(found)).sum(2)
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        out = y.new_zeros(y.shape[0], *self.domain_shape)
        for n, s, points, c in self._pieces(y, _SAMPLED // 16 // math.prod(self.domain_shape[1:])):
            v = y[n, c][:, :, None]
            v = v if self._b is None else v * self._b.to(v).conj()
            z = self._gridded(v.flatten(0, 2), points).unflatten(0, v.shape[:3])
            out[n] += self._combined(s[:, c], z)
        return out

    def _normal(self, x: Tensor) -> Tensor:
        eigenvalues, out = self._eigenvalues(x), torch.zeros_like(x)
        fit = _CONVOLVED // x.element_size() // math.prod(fast_size(self.domain_shape[1:]))
        for n, s, _, c in self._pieces(x, fit):
            z = self._in_segments((s[:, c] * x[n][:, :, None]).sum(1))
            own = eigenvalues[n.start % len(eigenvalues)]  # one for all, or one for each event
            found = convolve(z.flatten(0, 1), own).unflatten(0, z.shape[:2])
            out[n] += self._combined(s[:, c], found)
        return out

    def _pieces(self, x: Tensor, fit: int) -> Iterator[tuple[slice, Tensor, Tensor, slice]]:
        """Cut a batch into (images, their maps (sets, coils, ...), their points, coils) of about `fit` coil images."""
        maps, coils = self.coil_maps.to(x.dtype), self.range_shape[0]
        fit = max(1, fit // (1 if self._b is None else len(self._b)))
        events = 1 if self.n_problems > 1 else max(1, min(len(x), fit // coils))
        step = max(1, min(coils, fit // events))
        for first in range(0, len(x), events):
            n = slice(first, min(first + events, len(x)))
            s, points = maps[first % len(maps)], self.trajectory[first % len(self.trajectory)]
            if self.n_problems == 1:
                s, points = maps[0], self.trajectory[0]
            for start in range(0, coils, step):
                yield n, s, points, slice(start, min(start + step, coils))

    def _in_segments(self, z: Tensor) -> Tensor:
        """Coil images (n, coils, ...) to (n, coils, segments, ...)."""
        return z[:, :, None] if self._c is None else z[:, :, None] * self._c.to(z)

    def _combined(self, s: Tensor, z: Tensor) -> Tensor:
        """Maps (sets, coils, ...) and images (n, coils, segments, ...) to (n, sets, ...)."""
        z = z[:, :, 0] if self._c is None else (z * self._c.to(z).conj()).sum(2)
        return (s.conj() * z[:, None]).sum(2)

    def _sampled(self, images: Tensor, points: Tensor) -> Tensor:
        return to_samples(images, points, self._accuracy(images)) / math.sqrt(math.prod(self.domain_shape[1:]))

    def _gridded(self, samples: Tensor, points: Tensor) -> Tensor:
        spatial = self.domain_shape[1:]
        return to_image(samples, points, spatial, self._accuracy(samples)) / math.sqrt(math.prod(spatial))

    def _accuracy(self, x: Tensor) -> float:
        return _ACCURACY[x.dtype] if self.accuracy is None else self.accuracy

    def _eigenvalues(self, x: Tensor) -> Tensor:
        """Those of `toeplitz.transfer`, ``(trajectories, L, L, *grid)``; real without a field map."""
        kept, key = _TRANSFER.setdefault(self, {}), (x.dtype, x.device)
        if key not in kept:
            spatial, samples = self.domain_shape[1:], self.trajectory.shape[1]
            b = torch.ones(1, samples, dtype=torch.complex128) if self._b is None else self._b
            weights = (b.conj()[:, None] * b[None]).flatten(0, 1) / math.prod(spatial)
            found = [transfer(weights, k, spatial, self._accuracy(x)) for k in self.trajectory]
            stacked = torch.stack(found).unflatten(1, (len(b), len(b)))
            own = stacked.real.to(x.device, x.real.dtype) if len(b) == 1 else stacked.to(x)
            kept[key] = own.contiguous()
        return kept[key]

    def take(self, problems: Sequence[int]) -> NonCartesianMRI:
        """Return the operator of the given problems, in that order; itself where all problems share it."""
        if self.n_problems == 1:
            return self
        if not problems or not all(0 <= i < self.n_problems for i in problems):
            raise InputError(f"{self!r}.take got {list(problems)}; it expects numbers from 0 to {self.n_problems - 1}")
        maps, k = (b if len(b) == 1 else b[list(problems)] for b in (self.coil_maps, self.trajectory))
        return NonCartesianMRI(maps, k, self.field_map, self.times, self.segments, self.accuracy)

    @classmethod
    def example(cls, rng: torch.Generator) -> NonCartesianMRI:
        """Build two sets of maps, three coils, 5 x 6 pixels, 40 random samples and a field map."""
        maps = torch.randn(1, 2, 3, 5, 6, generator=rng, dtype=torch.complex64)
        trajectory = torch.rand(40, 2, generator=rng, dtype=torch.float64) - 0.5
        field = 40 * torch.randn(5, 6, generator=rng)
        return cls(maps, trajectory, field, torch.linspace(0, 0.02, 40))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments, without those that are None."""
        given = {name: getattr(self, name) for name in ("field_map", "times", "segments", "accuracy")}
        kept = {name: value for name, value in given.items() if value is not None}
        return {"coil_maps": self.coil_maps, "trajectory": self.trajectory, **kept}
