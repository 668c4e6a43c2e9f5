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

_FINE = 20  # bins of the histogram of frequencies in a turn over the readout
_MOST = 64  # segments tried
_TURNS = 200.0  # over the readout, from the lowest frequency to the highest; more is a wrong unit
_TRIED, _CHUNK = 256, 1024  # times at which a number of segments is tried, and that are fitted together
_LONGEST = 1.0  # seconds: no signal lasts so long
_ROUNDING = 1e-6  # what a large b costs: results are differences of terms of its size, in single precision


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
        tolerance: root mean square over pixels, at the worst time, of the error of a phase factor of modulus 1.

    Raises:
        InputError: NaN, times of more than a second, frequencies that turn more than 200 times against each other over
            them, a number of segments below 1, or the tolerance is not met with 64.
    """
    f, t = (torch.as_tensor(v).detach().to("cpu", torch.float64) for v in (field_map, times))
    if not (bool(torch.isfinite(f).all()) and bool(torch.isfinite(t).all())):
        raise InputError("time_segments got a field map (Hz) or times (s) that hold NaN or infinity; set them to 0")
    if segments is not None and segments < 1:
        raise InputError(f"time_segments got segments = {segments}; it expects at least 1")
    distinct, index = t.unique(return_inverse=True)
    first, last = float(distinct[0]), float(distinct[-1])
    if last - first > _LONGEST:
        raise InputError(
            f"time_segments got times from {first:.4g} to {last:.4g}; it expects seconds: divide ms by 1000"
        )
    turns = float(f.max() - f.min()) * (last - first)
    if turns > _TURNS:
        raise InputError(
            f"time_segments got frequencies from {float(f.min()):.4g} to {float(f.max()):.4g} Hz: {turns:.3g} turns"
            f" over {last - first:.3g} s; check the units (Hz, s), and for single wrong pixels"
        )
    points, weight = _points(f, turns)
    some = distinct[torch.linspace(0, len(distinct) - 1, min(_TRIED, len(distinct))).round().long()]
    error = math.inf
    for count in range(1, _MOST + 1) if segments is None else (segments,):
        tau = torch.linspace(first, last, count, dtype=torch.float64) if count > 1 else distinct[[0, -1]].mean()[None]
        if segments is None and (error := _fit(tau, some, points, weight)[2]) > tolerance:
            continue
        parts = [_fit(tau, piece, points, weight) for piece in distinct.split(_CHUNK)]
        error = max(part[2] for part in parts)
        if segments is not None or error <= tolerance:
            places = _turns(tau, f.flatten()).reshape(-1, *f.shape)
            b = torch.cat([part[0] for part in parts], 1)
            return Segments(b[:, index].contiguous(), places, max(part[1] for part in parts))
    raise InputError(
        f"{_MOST} time segments leave an error of {error:.2g} for frequencies from {float(f.min()):.4g} to"
        f" {float(f.max()):.4g} Hz over {last - first:.3g} s; check the units (Hz, s) or give segments"
    )


def _fit(tau: Tensor, t: Tensor, points: Tensor, weight: Tensor) -> tuple[Tensor, float, float]:
    """b at the times t ``(L, times)`` of least squares, the largest error, and the same with the price of large b."""
    basis = (_turns(tau, points) * weight).mT
    exact = (_turns(t, points) * weight).mT
    eye = _ROUNDING * torch.eye(len(tau), dtype=torch.float64)
    q, r = torch.linalg.qr(torch.cat([basis, eye]))
    b = torch.linalg.solve_triangular(r, q[: len(basis)].mH @ exact, upper=True)
    missed = (basis @ b - exact).abs().square().sum(0)
    priced = missed + _ROUNDING**2 * b.abs().square().sum(0)
    return b, float(missed.max().sqrt()), float(priced.max().sqrt())


def _points(f: Tensor, turns: float) -> tuple[Tensor, Tensor]:
    """Frequencies that stand for all pixels, and the roots of their shares.

    Two a bin, a deviation below and above its mean, have its pixels' first moments: the fit then holds between them,
    too, and pixels of one frequency are met exactly.
    """
    f = f.flatten()
    low, high = float(f.min()), float(f.max())
    bins = max(1, math.ceil(turns * _FINE))
    where = ((f - low) * (bins / max(high - low, 1e-300))).long().clamp(max=bins - 1)
    count = torch.bincount(where, minlength=bins).double()
    mean = torch.bincount(where, f, bins) / count.clamp_min(1)
    deviation = (torch.bincount(where, (f - mean[where]) ** 2, bins) / count.clamp_min(1)).sqrt()
    points = torch.cat([mean - deviation, mean + deviation])
    weight = (count / (2 * len(f))).sqrt().repeat(2)
    return points[weight > 0], weight[weight > 0]


def _turns(t: Tensor, f: Tensor) -> Tensor:
    angle = -2 * math.pi * torch.outer(t, f)
    return torch.polar(torch.ones_like(angle), angle)
