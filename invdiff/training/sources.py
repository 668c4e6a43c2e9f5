"""Where training images come from: the source that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from invdiff.errors import InputError
from invdiff.training.config import TrainConfig
from invdiff.training.source import Source

__all__ = ["make_source"]


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
