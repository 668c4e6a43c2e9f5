"""A matrix along each of several axes: ``y = (M_1 x M_2 x ...) x``.

Resampling, slice profiles, conservative coarsening, vertical interpolation and spectral response are all of this kind.
The singular value decomposition is that of the small matrices, so norm and proximal steps are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator

__all__ = ["Separable"]


class Separable(LinearOperator):
    """``y = (M_1 x M_2 x ...) x``: one matrix for each of the named axes of the event.

    Args:
        matrices: real matrices ``(m, n)``, one an axis.
        shape: event shape of x.
        axes: the axis of the event that each matrix acts on, whose length must be its n.
        domain: ``"real"`` or ``"complex"``.

    Raises:
        ShapeError: a matrix does not fit its axis. InputError: an axis is named twice or does not exist, or a matrix
            holds NaN or infinity.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor | Sequence[Sequence[float]]],
        shape: Sequence[int],
        axes: Sequence[int],
        domain: str = "real",
    ) -> None:
        name, shape = type(self).__name__, tuple(int(n) for n in shape)
        if domain not in ("real", "complex"):
            raise InputError(f"{name} got domain {domain!r}; it expects 'real' or 'complex'")
        if not all(-len(shape) <= a < len(shape) for a in axes) or len({a % len(shape) for a in axes}) != len(axes):
            raise InputError(f"{name} got axes {tuple(axes)}; it expects different axes of an event of shape {shape}")
        if len(matrices) != len(axes) or not axes:
            raise ShapeError(f"{name} got {len(matrices)} matrices for {len(axes)} axes; one each is expected")
        self.axes = tuple(a % len(shape) for a in axes)
        out = list(shape)
        for axis, given in zip(self.axes, matrices, strict=True):
            matrix = torch.as_tensor(given)
            if matrix.ndim != 2 or matrix.shape[1] != shape[axis] or matrix.shape[0] < 1:
                raise ShapeError(
                    f"{name} got a matrix of shape {tuple(matrix.shape)} for axis {axis} of {shape}; it expects"
                    f" (m, {shape[axis]})"
                )
            if matrix.is_complex() or not bool(torch.isfinite(matrix).all()):
                raise InputError(f"{name} got a matrix for axis {axis} that is not real and finite")
            matrix = matrix if matrix.is_floating_point() else matrix.to(torch.get_default_dtype())
            setattr(self, f"matrix_{axis}", matrix)
            out[axis] = matrix.shape[0]
        self.domain_shape, self.range_shape = shape, tuple(out)
        self.domain = self.range = domain
        self._refresh()

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {f"matrix_{axis}": getattr(self, f"matrix_{axis}") for axis in self.axes}

    def _refresh(self) -> None:
        vars(self).pop("_svd", None)
        self._maps = {axis: _map(matrix) for axis, matrix in self.matrices.items()}
        self._back = {axis: _map(matrix.mT) for axis, matrix in self.matrices.items()}

    @property
    def matrices(self) -> dict[int, Tensor]:
        """The matrices by axis of the event."""
        return {axis: getattr(self, f"matrix_{axis}") for axis in self.axes}

    def _forward(self, x: Tensor) -> Tensor:
        return _along(x, self._maps)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _along(y, self._back)

    @cached_property
    def _svd(self) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        out = {}
        for axis, matrix in self.matrices.items():
            u, s, vh = torch.linalg.svd(matrix.cpu().double(), full_matrices=False)
            out[axis] = (u.to(matrix), s.to(matrix), vh.to(matrix))
        return out

    def _damped(self, shift: float) -> Callable[[Tensor], Tensor]:
        """``V S (S^2 + s)^-1 U^T v``, S the products of the singular values of all axes."""
        into = {a: u.mT for a, (u, _, _) in self._svd.items()}
        back = {a: vh.mT for a, (_, _, vh) in self._svd.items()}
        shapes = ((s, (-1, *(1,) * (len(self.domain_shape) - axis - 1))) for axis, (_, s, _) in self._svd.items())
        values = reduce(torch.mul, (s.reshape(shape) for s, shape in shapes))
        gain = values / (values**2 + shift)
        return lambda v: _along(gain.to(v.real.dtype) * _along(v, into), back)

    def norm(self, iterations: int = 30, seed: int = 0) -> float:
        """Largest singular value, the product of those of the matrices (exact)."""
        del iterations, seed
        return math.prod(float(s.max()) for _, s, _ in self._svd.values())

    @classmethod
    def example(cls, rng: torch.Generator) -> Separable:
        """Build random matrices for the first and last axes of 4 x 5 x 6 events."""
        matrices = [torch.randn(3, 4, generator=rng), torch.randn(7, 6, generator=rng)]
        return Separable(matrices, (4, 5, 6), (0, 2))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments, matrices as lists."""
        return {
            "matrices": [matrix.tolist() for matrix in self.matrices.values()],
            "shape": list(self.domain_shape),
            "axes": list(self.axes),
            "domain": self.domain,
        }


class _Banded:
    """A matrix ``(m, n)`` whose rows are zero but for a window: a dense product for each group of rows, over theirs."""

    def __init__(self, matrix: Tensor) -> None:
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.blocks: list[tuple[slice, slice, Tensor]] = []
        for rows in (slice(a, min(a + _ROWS, len(matrix))) for a in range(0, len(matrix), _ROWS)):
            used = (matrix[rows] != 0).any(0).nonzero().flatten()
            window = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
            self.blocks.append((rows, window, matrix[rows, window].contiguous()))

    @property
    def work(self) -> int:
        return sum(block.numel() for _, _, block in self.blocks)


_ROWS = 32


def _map(matrix: Tensor) -> Tensor | _Banded:
    """The matrix, or in groups of rows where that saves most of a large product."""
    if matrix.numel() < 1 << 16:
        return matrix
    banded = _Banded(matrix)
    return banded if 2 * banded.work < matrix.numel() else matrix


def _along(x: Tensor, maps: Mapping[int, Tensor | _Banded]) -> Tensor:
    """Apply maps to axes of the events of a batch, those that shrink x most first."""
    for axis, each in sorted(maps.items(), key=lambda item: item[1].shape[0] / item[1].shape[1]):
        shape, (m, n) = x.shape, each.shape
        last = axis + 2 == x.ndim
        x = x.reshape(-1, n) if last else x.reshape(math.prod(shape[: axis + 1]), n, -1)
        if isinstance(each, Tensor):
            out = x @ each.to(x.dtype).mT if last else each.to(x.dtype) @ x
        else:
            out = x.new_empty(len(x), m) if last else x.new_empty(len(x), m, x.shape[-1])
            for rows, window, block in each.blocks:
                part, block = x[:, window], block.to(x.dtype)
                out[:, rows] = part @ block.mT if last else block @ part
        x = out.reshape(*shape[: axis + 1], m, *shape[axis + 2 :])
    return x
