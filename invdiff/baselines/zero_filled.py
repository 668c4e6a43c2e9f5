"""The adjoint of the data: what was not measured counts as zero."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator

__all__ = ["zero_filled"]


def zero_filled(measurement: Measurement) -> Tensor:
    """Return ``A^H y``, shape ``(1, *domain_shape)`` (``(problems, ...)`` where batched).

    For MRI it is the coil-combined inverse transform of k-space with zeros where nothing was sampled.

    Raises:
        InputError: the operator is nonlinear.
    """
    op = measurement.operator
    if not isinstance(op, LinearOperator):
        raise InputError(f"zero_filled needs a linear operator; got {op!r}")
    with torch.inference_mode():
        return op.adjoint(measurement.data)
