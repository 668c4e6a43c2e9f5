"""What every source of training images promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

__all__ = ["Batch", "Source"]


@dataclass(frozen=True)
class Batch:
    """Clean images ``x (n, C, *spatial)`` float32, and what the network is told beside the noisy ones.

    `condition` is ``(n, K, *spatial)`` float32 (positions of a patch, terrain, the season), or None.
    """

    x: Tensor
    condition: Tensor | None = None


class Source(Protocol):
    """Batches of training data; batch `k` depends on (seed, k) alone, on every machine.

    Attributes:
        channels: C, the real channels of x (2 for a complex image).
        conditions: K, the channels of the condition; 0 for none.
        domain: ``"real"`` or ``"complex"``: what x is to the prior.
        card: what the weights' card must say of the data, beside the configuration (``units``, ``condition``, ...).
    """

    channels: int
    conditions: int
    domain: str
    card: dict[str, Any]

    def batch(self, step: int, n: int) -> Batch:
        """Training batch number `step`."""
        ...

    def held_out(self, step: int, n: int) -> Batch:
        """A batch of data that are never trained on."""
        ...
