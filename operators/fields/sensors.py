"""Point sensors on a field: stations, soundings, buoys, detectors between the pixels of a camera.

Each datum is a field interpolated linearly between the nodes about its sensor, on the true coordinates of the grid:
regular or rectilinear, flat or on the sphere, with pressure levels interpolated in ln p. The adjoint scatters with the
same weights, so the pair is exact, and the sparse matrix is there for whoever wants it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.fields.axes import Neighbours, axis_neighbours, check_angles, sphere_neighbours

__all__ = ["PointSensors"]

_KINDS = ("linear", "log", "latitude", "longitude")


class PointSensors(LinearOperator):
    """Fields ``(C, *grid)`` at M points: data ``(C, M)``, or ``(M,)`` where each sensor sees one channel.

    Args:
        shape: event shape of x, ``(C, *grid)``.
        axes: coordinates of the grid's axes, in any order of size (latitude may descend), one list an axis.
        points: coordinates of the sensors, ``(M, number of axes)``, columns in the order of the axes.
        kinds: what each axis is: ``"linear"``, ``"log"`` (pressure: linear in its logarithm), or ``"latitude"`` and
            ``"longitude"``, which come together, neighbours in this order; all linear if not given.
        channels: channel that each sensor sees, ``(M,)``; all of them if not given.
        vectors: one boolean a channel, true for eastward and northward components (wind): across a pole these have the
            opposite sign.
        outside: ``"refuse"`` sensors that the grid does not cover, or ``"drop"`` them: their data are zero and
            `range_mask` says so. Nothing is ever extrapolated.
        units: ``"degrees"`` or ``"radians"`` of latitudes and longitudes, grid and points alike; degrees if not given,
            and then angles that look like radians are refused.

    Raises:
        ShapeError: the arguments do not fit together. InputError: a coordinate is NaN, an axis is not monotone, a
            sensor lies outside the grid, angles are in the wrong unit or order, or a channel does not exist.
    """

    def __init__(
        self,
        shape: Sequence[int],
        axes: Sequence[Tensor | Sequence[float]],
        points: Tensor,
        kinds: Sequence[str] | None = None,
        channels: Tensor | None = None,
        vectors: Sequence[bool] | None = None,
        outside: str = "refuse",
        units: str | None = None,
        domain: str = "real",
    ) -> None:
        shape = tuple(int(n) for n in shape)
        self.kinds = tuple(kinds) if kinds is not None else ("linear",) * (len(shape) - 1)
        self.axes = tuple(torch.as_tensor(a, dtype=torch.float64).cpu() for a in axes)
        self.points = torch.as_tensor(points, dtype=torch.float64).cpu()
        self.outside, self.units = outside, units
        self._check_arguments(shape, domain)
        near = self._neighbours(shape)
        if outside == "refuse" and not bool(near.inside.all()):
            first = int((~near.inside).nonzero()[0])
            raise InputError(
                f"{int((~near.inside).sum())} of {len(self.points)} sensors lie outside the grid, the first at"
                f" {self.points[first].tolist()}: leave them out, or let outside='drop' do it"
            )
        if not bool(near.inside.any()):
            raise InputError("no sensor lies inside the grid: are the columns of points in the order of the axes?")
        self.vectors = (False,) * shape[0] if vectors is None else tuple(bool(v) for v in vectors)
        if len(self.vectors) != shape[0]:
            raise ShapeError(f"PointSensors got {len(self.vectors)} entries in vectors for {shape[0]} channels")
        weight = (near.weight * near.inside[:, None])[None]
        if any(self.vectors) and bool(near.over.any()):
            flips = torch.tensor(self.vectors)[:, None, None] & near.over
            weight = torch.where(flips, -weight, weight)
        self.index, self.weight = near.index, weight.to(torch.float32)  # (M, K) and (C or 1, M, K)
        self.domain_shape, self.domain, self.range = shape, domain, domain
        self.channels = None if channels is None else self._checked_channels(torch.as_tensor(channels).cpu())
        self.range_shape = (shape[0], len(self.points)) if channels is None else (len(self.points),)
        self.range_mask = None if bool(near.inside.all()) else near.inside
        if self.channels is not None:  # one row of weights a sensor, on the flattened field
            rows = self.channels if weight.shape[0] > 1 else torch.zeros_like(self.channels)
            self.weight = self.weight[rows, torch.arange(len(self.points))][None]
            self.index = self.index + self.channels[:, None] * math.prod(shape[1:])

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"index": self.index, "weight": self.weight, "range_mask": self.range_mask}

    def _forward(self, x: Tensor) -> Tensor:
        flat, weight = self._flat(x), self.weight.to(x.dtype)
        out = flat.index_select(-1, self.index[:, 0]) * weight[..., 0]
        for k in range(1, self.index.shape[1]):
            out.addcmul_(flat.index_select(-1, self.index[:, k]), weight[..., k])
        return out.reshape(-1, *self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        y = y.reshape(y.shape[0], -1, len(self.points))
        weight, nodes = self.weight.to(y.dtype), math.prod(self.domain_shape) // y.shape[1]
        out = y.new_zeros(*y.shape[:2], nodes)
        for k in range(self.index.shape[1]):
            out.index_add_(-1, self.index[:, k], y * weight[..., k])
        return out.reshape(-1, *self.domain_shape)

    def _flat(self, x: Tensor) -> Tensor:
        """``(N, C, nodes)``, or ``(N, 1, C * nodes)`` where each sensor sees one channel."""
        return x.flatten(2) if self.channels is None else x.flatten(1)[:, None]

    def sparse(self) -> Tensor:
        """Return A as a sparse CSR matrix, ``(data, entries of x)``, both flattened."""
        nodes, m = math.prod(self.domain_shape[1:]), len(self.points)
        index, weight = self.index[None], self.weight
        if self.channels is None:
            index = index + nodes * torch.arange(self.domain_shape[0], device=index.device)[:, None, None]
            weight = weight.expand_as(index)
        rows = torch.arange(index.shape[0] * m, device=index.device)[:, None].expand(-1, index.shape[2])
        entries = torch.stack([rows.flatten(), index.flatten()])
        size = (math.prod(self.range_shape), math.prod(self.domain_shape))
        with warnings.catch_warnings():  # torch announces that its CSR tensors are in beta
            warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
            return (
                torch.sparse_coo_tensor(entries, weight.flatten(), size, check_invariants=True)
                .coalesce()
                .to_sparse_csr()
            )

    def _neighbours(self, shape: tuple[int, ...]) -> Neighbours:
        near: Neighbours | None = None
        scale = 180 / math.pi if self.units == "radians" else 1.0
        for i, kind in enumerate(self.kinds):
            if kind == "longitude":
                continue
            if kind == "latitude":
                lat, lon, points = (v * scale for v in (self.axes[i], self.axes[i + 1], self.points[:, i : i + 2]))
                check_angles(lat, lon, points, self.units)
                found, length = sphere_neighbours(lat, lon, points), shape[i + 1] * shape[i + 2]
            else:
                found = axis_neighbours(self.axes[i], self.points[:, i], f"axis {i}", log=kind == "log")
                length = shape[i + 1]
            near = found if near is None else near.join(found, length)
        if near is None:
            raise InputError("PointSensors got no axes; it expects at least one")
        return near

    def _check_arguments(self, shape: tuple[int, ...], domain: str) -> None:
        rank = len(shape) - 1
        if len(self.axes) != rank or len(self.kinds) != rank or self.points.ndim != 2 or self.points.shape[1] != rank:
            raise ShapeError(
                f"PointSensors got {len(self.axes)} axes, {len(self.kinds)} kinds and points {tuple(self.points.shape)}"
                f" for events {shape}; it expects {rank}, {rank} and (M, {rank})"
            )
        for i, (axis, n) in enumerate(zip(self.axes, shape[1:], strict=True)):
            if tuple(axis.shape) != (n,):
                raise ShapeError(f"axis {i} has {tuple(axis.shape)} coordinates; the field {shape} has {n} nodes there")
        if not set(self.kinds) <= set(_KINDS) or not len(self.points):
            raise InputError(f"PointSensors got kinds {self.kinds} and {len(self.points)} points; kinds are {_KINDS}")
        pairs = [i for i, kind in enumerate(self.kinds) if kind == "latitude"]
        if [i + 1 for i in pairs] != [i for i, kind in enumerate(self.kinds) if kind == "longitude"]:
            raise InputError(f"PointSensors got kinds {self.kinds}; a 'longitude' must follow each 'latitude'")
        options = (self.outside in ("refuse", "drop"), self.units in (None, "degrees", "radians"))
        if not all(options) or domain not in ("real", "complex"):
            raise InputError(
                f"PointSensors got outside={self.outside!r}, units={self.units!r}, domain={domain!r}; they expect"
                " 'refuse' or 'drop'; 'degrees' or 'radians'; 'real' or 'complex'"
            )

    def _checked_channels(self, channels: Tensor) -> Tensor:
        whole = not (channels.is_floating_point() or channels.is_complex() or channels.dtype == torch.bool)
        if channels.shape != (len(self.points),) or not whole:
            raise ShapeError(
                f"PointSensors got channels {tuple(channels.shape)} of {channels.dtype}; one integer a sensor"
            )
        if int(channels.min()) < 0 or int(channels.max()) >= self.domain_shape[0]:
            raise InputError(f"PointSensors got channels outside 0 ... {self.domain_shape[0] - 1}")
        return channels.long()

    @classmethod
    def example(cls, rng: torch.Generator) -> PointSensors:
        """Build six sensors on a global grid of 4 x 8 nodes, two wind components, one sensor close to a pole."""
        lat, lon = [67.5, 22.5, -22.5, -67.5], [45.0 * i for i in range(8)]
        points = torch.rand(6, 2, generator=rng, dtype=torch.float64) * torch.tensor([120.0, 360.0]) - 60
        points[0] = torch.tensor([-85.0, -170.0])
        return cls((2, 4, 8), (lat, lon), points, ("latitude", "longitude"), vectors=(True, False))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "shape": list(self.domain_shape),
            "axes": [a.tolist() for a in self.axes],
            "points": self.points,
            "kinds": list(self.kinds),
            "vectors": list(self.vectors),
            "outside": self.outside,
            "units": self.units,
            "domain": self.domain,
            **({} if self.channels is None else {"channels": self.channels}),
        }
