"""Where training images come from: what every source promises, and the source that a configuration asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from invdiff.errors import InputError

if TYPE_CHECKING:
    from invdiff.training.config import TrainConfig

__all__ = ["Batch", "Source", "make_source"]


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


def make_source(config: TrainConfig, cache: Path) -> Source:
    """The source that ``config.data.kind`` names; what it makes once is kept in the folder `cache`."""
    if config.data.kind == "phantoms":
        from invdiff.training.data import PhantomSource

        return PhantomSource(config.data, config.domain, config.seed, cache)
    if config.data.kind == "images":
        from invdiff.training.images import ImageSource

        return ImageSource(config.data, config.domain, config.seed)
    if config.data.kind == "fields":
        from invdiff.training.fields import FieldsSource

        return FieldsSource(config.data, config.seed, config.sigma_max)
    raise InputError(
        f"data.kind is {config.data.kind}, which is no source of images;"
        " invdiff.training.from_measurements.train_from_measurements takes it"
    )
