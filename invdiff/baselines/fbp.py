"""Filtered backprojection, or FDK of cone beams, as a method to compare with."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.operators.ct import fbp
from invdiff.operators.ct.tomography import Tomography

__all__ = ["filtered_backprojection"]


def filtered_backprojection(measurement: Measurement, cutoff: float = 1.0) -> Tensor:
    """Reconstruct with a Hann window that ends at `cutoff` times the highest frequency (`invdiff.operators.ct.fbp`).

    Args:
        measurement: of a tomograph; its noise does not matter. Arcs that are too short are gone on with.
        cutoff: above 0 to 1; lower is smoother.

    Returns:
        x, shape ``(1, *domain_shape)`` (``(problems, ...)`` where batched).

    Raises:
        InputError: the operator is no tomograph, or cutoff is out of range.
    """
    operator = measurement.operator
    if not isinstance(operator, Tomography):
        raise InputError(f"filtered backprojection needs a tomograph with whole views; got {operator!r}")
    with torch.inference_mode():
        return fbp(operator, measurement.data, window="hann", cutoff=cutoff, limited=True)
