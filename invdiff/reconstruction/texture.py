"""How much fine detail that the prior does not know the data ask for."""

from __future__ import annotations

from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.reconstruction.settings import Settings
from invdiff.samplers.base import Sampler
from invdiff.sampling import sample
from invdiff.units import with_texture

__all__ = ["TRIED", "broadened"]

TRIED = (0.0, 1.0, 2.0)  # multiples of the noise
FITS = 1.1  # chi2 over its expectation up to which a prior fits


def broadened(measurement: Measurement, prior: Prior, sampler: Sampler, settings: Settings) -> tuple[Prior, float]:
    """The prior with as much texture as is asked for, or as the data need; and how much that is.

    Given the data, a draw of the exact posterior and the truth have one law, so a draw misses the data by as much as
    the noise does: chi2 is their number. A prior that lacks what is measured leaves more. The least texture of `TRIED`
    is taken under which it does not, or the last; it costs a draw of the brightest problem for each that is too little.
    """
    if with_texture(prior, measurement, TRIED[-1]) is prior:  # it knows what it is for
        return prior, 0.0
    if settings.texture is not None:
        return with_texture(prior, measurement, settings.texture), settings.texture
    brightest = int(measurement.data.abs().square().flatten(1).sum(1).argmax())
    one = measurement.take([brightest])
    part = Measurement(one.y, one.operator, one.noise, meta=one.meta, batched=one.batched)
    told = []
    for multiple in TRIED[:-1]:
        found = sample(
            part, with_texture(prior, part, multiple), sampler, sampler.unit, seed=settings.seed,
            device=measurement.y.device, memory=settings.memory, progress=False,
        ).diagnostics["chi2_ratio"]  # fmt: skip
        told.append(f"{found:.2f} with {multiple:g}")
        if found <= FITS:
            break
    else:
        multiple = TRIED[-1]
    settings.report(f"fine texture beyond the prior: {multiple:g} noise levels (chi2 of a draw {', '.join(told)})")
    return with_texture(prior, measurement, multiple), multiple
