"""Coarser latitude-longitude grids: means over the new cells, weighted by area on the sphere.

A cell reaches half-way to its neighbours; the outermost as far again, but not beyond a pole. The area between two
parallels is proportional to the difference of the sines of latitude, so means are exact for what is constant in the
old cells, and the global mean is kept. The adjoint divides by the same areas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.fields.axes import check_angles, goes_round
from invdiff.operators.separable import Separable
from invdiff.operators.weights import overlap_matrix

__all__ = ["Coarsen", "block_axis", "cell_areas"]


class Coarsen(Separable):
    """Area-weighted means of fields ``(C, *rest, latitude, longitude)`` over the cells of another grid.

    Args:
        shape: event shape of x.
        latitude, longitude: of the field's grid, degrees, of the lengths of the last two axes; latitude in either
            order, longitude in any convention.
        new_latitude, new_longitude: of the data's grid; `block_axis` makes those of means over f x f nodes.

    Raises:
        ShapeError: coordinates and shape differ. InputError: a coordinate is NaN or not monotone, the angles are no
            degrees, or a new cell reaches beyond the old grid.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latitude: Sequence[float] | Tensor,
        longitude: Sequence[float] | Tensor,
        new_latitude: Sequence[float] | Tensor,
        new_longitude: Sequence[float] | Tensor,
    ) -> None:
        given = (latitude, longitude, new_latitude, new_longitude)
        lat, lon, new_lat, new_lon = (torch.as_tensor(v, dtype=torch.float64).cpu() for v in given)
        if any(v.ndim != 1 or len(v) < 2 for v in (lat, lon, new_lat, new_lon)):
            raise ShapeError("Coarsen expects one-dimensional coordinates of at least two nodes each")
        if (len(lat), len(lon)) != tuple(shape[-2:]) or len(shape) < 3:
            raise ShapeError(f"Coarsen got {len(lat)} latitudes and {len(lon)} longitudes for events {tuple(shape)}")
        if not all(bool(torch.isfinite(v).all()) for v in (lat, lon, new_lat, new_lon)):
            raise InputError("Coarsen got a coordinate that is NaN or infinite")
        check_angles(lat, lon, None, None)
        check_angles(new_lat, new_lon, None, None)
        matrices = [_latitude_matrix(lat, new_lat), _longitude_matrix(lon, new_lon)]
        super().__init__([m.float() for m in matrices], shape, (-2, -1))
        self.coordinates = {
            "latitude": lat.tolist(),
            "longitude": lon.tolist(),
            "new_latitude": new_lat.tolist(),
            "new_longitude": new_lon.tolist(),
        }

    @classmethod
    def example(cls, rng: torch.Generator) -> Coarsen:
        """Build 3 x 3 block means of a global grid of 6 x 9 nodes, latitude descending."""
        del rng
        lat, lon = [75.0 - 30 * i for i in range(6)], [40.0 * i - 180 for i in range(9)]
        return cls((2, 6, 9), lat, lon, block_axis(lat, 3), block_axis(lon, 3))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"shape": list(self.domain_shape), **self.coordinates}


def block_axis(axis: Sequence[float] | Tensor, factor: int) -> Tensor:
    """Coordinates of blocks of `factor` neighbouring nodes: their means, float64.

    Raises:
        InputError: the factor does not divide the number of nodes.
    """
    values = torch.as_tensor(axis, dtype=torch.float64)
    if factor < 1 or len(values) % factor:
        raise InputError(f"block_axis got factor {factor} for {len(values)} nodes; it must divide them")
    return values.reshape(-1, factor).mean(1)


def cell_areas(latitude: Sequence[float] | Tensor) -> Tensor:
    """Area of a grid's cells by latitude (degrees), relative to their mean; float64, in the order given."""
    edges = _edges(torch.as_tensor(latitude, dtype=torch.float64), "latitude").clamp(-90, 90)
    areas = torch.sin(edges * (math.pi / 180)).diff().abs()
    return areas / areas.mean()


def _latitude_matrix(old: Tensor, new: Tensor) -> Tensor:
    edges, cells = (_edges(v, "latitude").clamp(-90, 90) for v in (old, new))
    _inside(edges, cells, "latitude")
    down, turned = edges[0] > edges[-1], cells[0] > cells[-1]
    edges, cells = (torch.sin(e.sort().values * (math.pi / 180)) for e in (edges, cells))
    matrix = overlap_matrix(edges, cells[:-1].clamp_min(edges[0]), cells[1:].clamp_max(edges[-1]))
    matrix = matrix.flip(1) if down else matrix
    return matrix.flip(0) if turned else matrix


def _longitude_matrix(old: Tensor, new: Tensor) -> Tensor:
    old, new = _unwrap(old), _unwrap(new)
    down, turned = old[0] > old[-1], new[0] > new[-1]
    old, new = old.sort().values, new.sort().values
    edges, cells = _edges(old, "longitude"), _edges(new, "longitude")
    new_shift = 360 * torch.floor((cells[0] - edges[0] + 1e-6) / 360)
    cells = cells - new_shift
    if goes_round(old):
        n = len(old)
        period = torch.cat([edges[:-1], edges[:-1] + 360, edges[-1:] + 360])
        matrix = overlap_matrix(period, cells[:-1].clamp_min(edges[0]), cells[1:])
        matrix = matrix[:, :n] + matrix[:, n:]
    else:
        _inside(edges, cells, "longitude")
        matrix = overlap_matrix(edges, cells[:-1].clamp_min(edges[0]), cells[1:].clamp_max(edges[-1]))
    matrix = matrix.flip(1) if down else matrix
    return matrix.flip(0) if turned else matrix


def _edges(axis: Tensor, name: str) -> Tensor:
    """Borders of the cells about the nodes: half-way between them, and as far beyond the outermost."""
    steps = axis.diff()
    if not (bool((steps > 0).all()) or bool((steps < 0).all())):
        raise InputError(f"{name} neither ascends nor descends strictly; it expects the coordinates of a grid's axis")
    middle = (axis[1:] + axis[:-1]) / 2
    return torch.cat([axis[:1] - steps[:1] / 2, middle, axis[-1:] + steps[-1:] / 2])


def _unwrap(longitude: Tensor) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.unwrap(longitude.numpy(), period=360.0))


def _inside(edges: Tensor, cells: Tensor, name: str) -> None:
    slack = 1e-6 * float(edges.diff().abs().min())
    if float(cells.min()) < float(edges.min()) - slack or float(cells.max()) > float(edges.max()) + slack:
        raise InputError(
            f"new cells reach from {name} {float(cells.min()):g} to {float(cells.max()):g}, the grid only from"
            f" {float(edges.min()):g} to {float(edges.max()):g}; choose a new grid inside the old one"
        )
