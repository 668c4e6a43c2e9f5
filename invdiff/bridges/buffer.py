"""The replay buffer: the newest samples of the controlled diffusion, first in, first out.

It keeps forces of the energy, collective variables and their derivatives rather than finished adjoints, so that the
bias and the corrector of the moment enter whenever a sample is used, and nothing in it goes stale but the samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.bridges.target import Evaluated
from invdiff.errors import InputError

__all__ = ["Buffer"]

_NAMES = ("x0", "x", "u", "gradient", "s", "jacobian")


class Buffer:
    """At most `size` samples: start x0, end x, u, gradient, s, jacobian (see `Evaluated`)."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InputError(f"buffer size is {size}; it expects 1 at least")
        self.size = size
        self.content: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.content["x0"]) if self.content else 0

    def add(self, x0: Tensor, found: Evaluated) -> int:
        """Append samples, drop the oldest beyond `size`; but not rows with NaN or infinity; return how many came in."""
        new = {"x0": x0} | {name: getattr(found, name) for name in _NAMES[1:]}
        good = torch.stack(
            [torch.isfinite(value.flatten(1) if value.ndim > 1 else value[:, None]).all(1) for value in new.values()]
        ).all(0)
        old = self.content or {name: value[:0] for name, value in new.items()}
        self.content = {name: torch.cat([old[name], value[good]])[-self.size :] for name, value in new.items()}
        return int(good.sum())

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Evaluated]:
        """Return `count` starts and samples, drawn with replacement. Raises InputError where the buffer is empty."""
        if len(self) == 0:
            raise InputError(
                "the buffer is empty: every sample so far had an energy that is not finite; start from data nearer to"
                " the target (warm start) or restrain the clashes away"
            )
        device = self.content["x0"].device
        rows = torch.randint(len(self), (count,), generator=rng, device=device)
        picked = {name: value[rows] for name, value in self.content.items()}
        x0 = picked.pop("x0")
        return x0, Evaluated(**picked)

    def state(self) -> dict[str, Tensor]:
        """Return the content as tensors."""
        return dict(self.content)

    def restore(self, state: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Go on from what `state` returned."""
        self.content = {name: value.to(device) for name, value in state.items()}
