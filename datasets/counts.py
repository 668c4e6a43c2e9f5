"""From counts behind an object to line integrals, and how noisy they are."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.errors import FormatError, InputError
from invdiff.noise import Transmission

if TYPE_CHECKING:
    from invdiff.datasets.projections import RawProjections

__all__ = ["line_integrals", "roughness"]

_WRONG = 0.2  # share of wrong readings from which on it is the file that is wrong

Floats = NDArray[Any]  # floating point


def _binned(values: Floats, bin: int) -> Floats:
    cut = values[..., : values.shape[-1] // bin * bin]
    mean: Floats = cut.reshape(*cut.shape[:-1], -1, bin).mean(-1)
    return mean


def line_integrals(raw: RawProjections, bin: int) -> tuple[Floats, Floats | None, dict[str, Any]]:
    """Line integrals of the binned scan, their standard deviation where the counts tell it, and what was found.

    Readings that no noise explains (a dropped frame, a spike below the dark) say nothing, and are counted. Raises
    FormatError where they are many.
    """
    if raw.flats is None:
        y = _binned(np.asarray(raw.projections, np.float64), bin)
        if raw.blank is None:
            return y, None, {}
        blank = np.broadcast_to(raw.blank, raw.projections.shape)
        return y, (_binned(blank, bin) * bin * np.exp(-y)).clip(0.5) ** -0.5, {}
    open_beam, dark = raw.open_beam()
    gain, notes = _gain(raw)
    counts = _binned(raw.projections - dark, bin) * bin / gain  # photons
    blank = _binned(open_beam, bin) * bin / gain
    read_out = 0.0
    if raw.darks is not None and len(raw.darks) > 1:
        read_out = float(np.sqrt(np.median(raw.darks.var(0, ddof=1)) * bin)) / gain
    elif (counts < 0).mean() > 1e-3:  # of noise about zero, what is below tells its size
        read_out = float(np.sqrt(np.mean(np.minimum(counts, 0) ** 2) / (counts < 0).mean()))
    dead = blank <= 0
    low: NDArray[np.bool_] = np.logical_and(~dead, counts < -6 * read_out)
    if low.mean() > _WRONG:
        raise FormatError(
            f"{raw.meta.get('file', 'projections')}: {low.mean():.0%} of the counts are below the dark; expected counts"
            " with the dark still in them, or line integrals without an open beam"
        )
    bad: NDArray[np.bool_] = np.logical_or(low, dead)
    noise = Transmission(torch.from_numpy(np.where(dead, 1.0, blank)), read_out)
    lines = noise.from_counts(torch.from_numpy(np.where(bad, 1.0, counts))).double()
    # The mean of the flats is uncertain, too, alike in all views.
    variance = 1 / noise.weights(lines).numpy() + 1 / (np.where(dead, 1.0, blank) * len(raw.flats))
    values: Floats = lines.numpy()
    if dead.any():
        notes["dead_channels"] = int(dead.sum())
    if low.any():
        notes["wrong_readings"] = int(low.sum())
        warnings.warn(
            f"{raw.meta.get('file', 'projections')}: {low.sum()} of {low.size} readings are below the dark by more than"
            " noise makes them; they are left out",
            RuntimeWarning,
            stacklevel=3,
        )
    if bad.any():  # they say nothing, and lie between their neighbours for methods that weigh all alike
        _bridge(values, bad)
        variance = np.where(bad, 1e6 * np.median(variance), variance)
    return values, np.sqrt(variance), notes


def _bridge(values: Floats, bad: NDArray[np.bool_]) -> None:
    """Replace bad values by those between their neighbours along channels, or of the nearest view that has some."""
    whole = np.asarray(bad.all(2))
    for v, r in zip(*np.nonzero(bad.any(2) & ~whole), strict=True):
        at, good = np.flatnonzero(bad[v, r]), np.flatnonzero(~bad[v, r])
        values[v, r, at] = np.interp(at, good, values[v, r, good])
    for v, r in zip(*np.nonzero(whole), strict=True):
        others = np.flatnonzero(~whole[:, r])
        values[v, r] = values[others[np.abs(others - v).argmin()], r] if len(others) else 0.0


def _gain(raw: RawProjections) -> tuple[float, dict[str, Any]]:
    """Counts that a photon makes: variance of the flats over their mean, the beam's own changes taken out."""
    assert raw.flats is not None
    if len(raw.flats) < 3:
        return 1.0, {}
    open_beam, dark = raw.open_beam()
    signal = raw.flats - dark
    steady = signal / signal.mean(2, keepdims=True) * open_beam.mean(1)[None, :, None]
    extra = 0.0 if raw.darks is None or len(raw.darks) < 3 else float(np.median(raw.darks.var(0, ddof=1)))
    middle = (1 - 2 / (9 * (len(raw.flats) - 1))) ** 3  # the median of chi2 over its degrees of freedom
    gain = (float(np.median(steady.var(0, ddof=1))) / middle - extra) / float(np.median(open_beam))
    return (gain, {"counts_per_photon": gain}) if gain > 0 else (1.0, {})


def roughness(y: Floats) -> float:
    """Noise of smooth sinograms: the median of second differences along channels, and along views, of white noise."""
    rough, factor = np.diff(y, 2, axis=-1), math.sqrt(6)
    if len(y) > 2:
        rough, factor = np.diff(rough, 2, axis=0), 6.0
    sigma = float(np.median(np.abs(rough))) / (0.6745 * factor)
    if not sigma > 0:
        raise InputError("the line integrals are free of noise; give sigma, their standard deviation")
    return sigma
