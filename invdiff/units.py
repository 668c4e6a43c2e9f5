"""A measurement in the prior's unit (one number multiplies y and sigma), and what else a run makes of it first."""

from __future__ import annotations

import math

import torch

from invdiff.errors import InputError
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.ct.streamed import streamed
from invdiff.priors.base import Hounsfield, Prior, Units
from invdiff.priors.textured import Textured

__all__ = ["held_beside", "in_memory", "rescale", "with_texture"]

_KSPACE = 16  # of the size of y or the coil maps, where data are complex: what transforms hold at their worst
_DRAW = 12  # of the size of x, for every draw: means, intervals and maps in the end


def rescale(measurement: Measurement, prior: Prior) -> tuple[Measurement, float]:
    """Return the measurement of ``factor * x`` and the factor; 1 where the prior declares no units.

    The size of x is read from a least-squares reconstruction (ten conjugate-gradient steps, which regularise), the
    same number for all problems of a batch. For a prior in Hounsfield units it is not estimated but known, from the
    attenuation of water that the measurement names.

    Raises:
        InputError: the operator is nonlinear, the data are all zero, or the attenuation of water is not known.
    """
    if prior.units is None:
        return measurement, 1.0
    op = measurement.operator
    if not isinstance(op, LinearOperator) or not isinstance(measurement.noise, Gaussian):
        raise InputError(
            f"this prior is for scaled images; scaling needs a linear operator and Gaussian noise, not {op!r}"
        )
    units = prior.units
    factor = _known(measurement, units) if isinstance(units, Hounsfield) else _estimated(measurement, units)
    scaled = Measurement(
        measurement.y * factor,
        op,
        measurement.noise.scaled(factor),
        measurement.coords,
        measurement.meta,
        measurement.batched,
    )
    return scaled, factor


def _known(measurement: Measurement, units: Hounsfield) -> float:
    mu_water = measurement.meta.get("mu_water_per_mm")
    if mu_water is None:
        raise InputError(
            "this prior is in Hounsfield units and the measurement does not name the attenuation of water: set"
            ' meta["mu_water_per_mm"], or take the prior "generic", which needs no unit'
        )
    return units.water / float(mu_water)


def _estimated(measurement: Measurement, units: Units) -> float:
    op = measurement.operator
    assert isinstance(op, LinearOperator)
    with torch.inference_mode():
        rhs = op.adjoint(measurement.data)
        # Without a tolerance a singular problem that is solved sooner (single-coil Fourier data) goes on into rounding.
        size = cg(op.normal, rhs, iterations=10, tolerance=1e-5).abs().flatten().float().cpu()
    if size.numel() > 2**22:
        size = size[:: size.numel() // 2**22 + 1]
    typical = float(torch.quantile(size, units.quantile))
    if not typical > 0:
        raise InputError("the data are zero: there is no image to scale to the prior's unit")
    return units.value / typical


def in_memory(measurement: Measurement, memory: int) -> Measurement:
    """The measurement with its views streamed where they take much of `memory` bytes; itself otherwise."""
    op = measurement.operator
    smaller = streamed(op, memory) if isinstance(op, LinearOperator) else op
    if smaller is op:
        return measurement
    m = measurement
    return Measurement(m.y, smaller, m.noise, m.coords, m.meta, m.batched)


def held_beside(measurement: Measurement, draws: int) -> int:
    """Bytes that a run of that many draws holds beside one x in the making: data, and what becomes of the draws."""
    op, y = measurement.operator, measurement.y
    x = math.prod(op.domain_shape) * (2 if op.domain == "complex" else 1) * y.real.element_size()
    data = y.nbytes
    if y.is_complex():
        tensors = [held.nbytes for held in op._buffers().values() if isinstance(held, torch.Tensor)]
        data = _KSPACE * max([data, *tensors])
    return data + _DRAW * draws * measurement.n_problems * x


def with_texture(prior: Prior, measurement: Measurement, multiple: float) -> Prior:
    """Return the prior with texture of `multiple` times the noise that a fully sampled image would have.

    Only a network's prior in relative units is changed, and only where the noise is Gaussian with one level: others
    know what they are for.
    """
    noise = measurement.noise
    if not (prior.is_network and prior.units and isinstance(noise, Gaussian) and isinstance(noise.sigma, float)):
        return prior
    return Textured(prior, multiple * noise.sigma * rescale(measurement, prior)[1])
