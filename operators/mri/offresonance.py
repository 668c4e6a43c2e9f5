"""Off-resonance by time segmentation: ``exp(-2 pi i f(r) t)`` as a short sum of products of a time and a place.

``exp(-2 pi i f t) ~ sum_l b_l(t) exp(-2 pi i f tau_l)`` with L instants ``tau_l`` equally spaced over the readout, and
at each time t the ``b_l(t)`` of least squares over the frequencies that occur. Source: Noll et al., IEEE Trans. Med.
Imaging 10 (1991); weights of least squares: Sutton, Noll and Fessler, IEEE Trans. Med. Imaging 22 (2003).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["Segments", "time_segments"]

_BINS = 256  # of the histogram of frequencies
_MOST = 64  # segments tried


class Segments(NamedTuple):
    """``times`` b ``(L, samples)``, ``places`` ``exp(-2 pi i f tau_l)`` ``(L, *spatial)``, and the largest error."""

    times: Tensor
    places: Tensor
    error: float


def time_segments(field_map: Tensor, times: Tensor, segments: int | None = None, tolerance: float = 1e-4) -> Segments:
    """Fit L segments, or the fewest whose error stays below the tolerance.

    Args:
        field_map: f in Hz, ``(*spatial)``; spins turn by ``exp(-2 pi i f t)``.
        times: t of every sample in seconds since excitation (or since the echo), ``(samples,)``.
        segments: L; None for the fewest.
        tolerance: root mean square over frequencies, at the worst time, of the error of a phase factor of modulus 1.

    Raises:
        InputError: NaN, a number of segments below 1, or the tolerance is not met with 64 segments.
    """
    f, t = (torch.as_tensor(v).detach().to("cpu", torch.float64) for v in (field_map, times))
    if not (bool(torch.isfinite(f).all()) and bool(torch.isfinite(t).all())):
        raise InputError("time_segments got a field map (Hz) or times (s) that hold NaN or infinity; set them to 0")
    if segments is not None and segments < 1:
        raise InputError(f"time_segments got segments = {segments}; it expects at least 1")
    low, high = float(f.min()), float(f.max())
    width = max(high - low, 1e-12) / _BINS
    share = torch.bincount(((f.flatten() - low) / width).long().clamp(max=_BINS - 1), minlength=_BINS)
    centre = (low + (torch.arange(_BINS) + 0.5) * width)[share > 0] if high > low else torch.tensor([low]).double()
    weight = (share[share > 0] / share.sum()).sqrt() if high > low else torch.ones(1, dtype=torch.float64)
    distinct, index = t.unique(return_inverse=True)
    exact = _turns(distinct, centre) * weight
    worst = math.inf
    for count in range(1, _MOST + 1) if segments is None else (segments,):
        first, last = float(distinct[0]), float(distinct[-1])
        tau = (
            torch.linspace(first, last, count, dtype=torch.float64)
            if count > 1
            else distinct.new_tensor([(first + last) / 2])
        )
        basis = _turns(tau, centre) * weight
        b = exact @ torch.linalg.pinv(basis, rtol=1e-10)
        worst = float((b @ basis - exact).abs().square().sum(1).sqrt().max())
        if segments is not None or worst <= tolerance:
            return Segments(b[index].mT.contiguous(), _turns(tau, f.flatten()).reshape(-1, *f.shape), worst)
    raise InputError(
        f"{_MOST} time segments leave an error of {worst:.2g} for frequencies from {low:.4g} to {high:.4g} Hz over"
        f" {float(distinct[-1] - distinct[0]):.3g} s; check the units (Hz, s) or give segments"
    )


def _turns(t: Tensor, f: Tensor) -> Tensor:
    angle = -2 * math.pi * torch.outer(t, f)
    return torch.polar(torch.ones_like(angle), angle)
