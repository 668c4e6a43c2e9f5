"""Wind as a vector: speed and direction to components and back, and the speed as a nonlinear datum.

Direction is where the wind comes from, in degrees clockwise from north: ``u = -V sin(d)``, ``v = -V cos(d)``, u
eastward, v northward. Components are linear data of the state and speed alone is not, so convert where both are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.operators.base import Operator

__all__ = ["WindSpeed", "wind_components", "wind_from_components"]


class WindSpeed(Operator):
    """``y = sqrt(u^2 + v^2)``: fields or data ``(C, *rest)`` to speeds ``(1, *rest)``; the derivative at calm is 0.

    ``WindSpeed(stations.range_shape, 0, 1) @ stations`` is an anemometer without a vane.

    Args:
        shape: event shape of x.
        u, v: channels of the components.

    Raises:
        InputError: u and v are not two channels of the shape.
    """

    def __init__(self, shape: Sequence[int], u: int = 0, v: int = 1) -> None:
        if len(shape) < 2 or not (0 <= u < shape[0] and 0 <= v < shape[0]) or u == v:
            raise InputError(f"WindSpeed got channels u = {u}, v = {v} of events {tuple(shape)}; two different ones")
        self.u, self.v = int(u), int(v)
        self.domain_shape = tuple(int(n) for n in shape)
        self.range_shape = (1, *self.domain_shape[1:])

    def _forward(self, x: Tensor) -> Tensor:
        square = x[:, self.u, None] ** 2 + x[:, self.v, None] ** 2
        calm = square == 0
        return torch.where(calm, 0.0, torch.sqrt(torch.where(calm, 1.0, square)))

    @classmethod
    def example(cls, rng: torch.Generator) -> WindSpeed:
        """Build the speed of channels 2 and 0 of three."""
        del rng
        return cls((3, 4, 5), 2, 0)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"shape": list(self.domain_shape), "u": self.u, "v": self.v}


def wind_components(speed: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Eastward and northward components of winds of the given speed from the given direction (degrees).

    Raises:
        InputError: a speed is negative, a direction outside 0 ... 360, or either NaN: leave such reports out.
    """
    speed, direction = torch.as_tensor(speed), torch.as_tensor(direction)
    if not bool((speed >= 0).all()) or not bool(torch.isfinite(speed).all()):
        raise InputError("wind_components got a speed that is negative, NaN or infinite; leave such reports out")
    if not bool(((direction >= 0) & (direction <= 360)).all()):
        raise InputError("wind_components got a direction outside 0 ... 360 degrees; leave such reports out")
    angle = direction * (math.pi / 180)
    return -speed * torch.sin(angle), -speed * torch.cos(angle)


def wind_from_components(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Speed, and the direction (degrees in (0, 360], 0 where it is calm) that the wind comes from."""
    speed = torch.hypot(u, v)
    direction = torch.atan2(-u, -v) * (180 / math.pi)
    direction = torch.where(direction <= 0, direction + 360, direction)
    return speed, torch.where(speed == 0, 0.0, direction)
