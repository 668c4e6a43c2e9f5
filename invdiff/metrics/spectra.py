"""How much fields vary at each length: zonal spectra on the globe, cosine spectra on limited areas.

A mean of members is smoother than nature and its spectrum falls off; members of a good ensemble have that of the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["area_spectrum", "zonal_spectrum"]

RADIUS = 6371e3  # of the Earth, m


def zonal_spectrum(field: Tensor, latitude: Sequence[float] | Tensor) -> Tensor:
    """Energy along circles of latitude by zonal wave number k, ``(..., latitude, longitude // 2 + 1)``, in unit^2 m.

    ``S_0 = C |F_0|^2`` and ``S_k = 2 C |F_k|^2`` with ``F_k = mean_l f_l exp(-2 pi i k l/L)`` and C the circumference
    at that latitude, as WeatherBench 2 has it (2308.15560), so that ``sum_k S_k = C mean_l f_l^2``; the highest wave
    number of an even L counts once for that.

    Args:
        field: ``(..., latitude, longitude)``, all the way round. latitude: degrees.

    Raises:
        ShapeError: the number of latitudes is not that of the rows. InputError: see `area_spectrum`.
    """
    x = _finite(field)
    lat = torch.as_tensor(latitude, dtype=torch.float64, device=x.device)
    if x.ndim < 2 or len(lat) != x.shape[-2]:
        raise ShapeError(f"zonal_spectrum got {len(lat)} latitudes for a field {tuple(x.shape)}")
    count = x.shape[-1]
    power = torch.fft.rfft(x, norm="forward").abs() ** 2
    power[..., 1 : (count + 1) // 2] *= 2
    return power * (2 * math.pi * RADIUS * lat.deg2rad().cos())[:, None]


def area_spectrum(field: Tensor, spacing: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Variance by wavelength on an area that does not go round: wavelengths ``(B,)`` and variances ``(..., B)``.

    The coefficients of the cosine transform, which asks for no periodicity, are gathered by
    ``a = sqrt((m/rows)^2 + (n/columns)^2)``, wavelength ``2/a`` in grid intervals; a band is one coefficient of the
    longer side wide and the mean is left out, so the sum over bands is the variance.

    Args:
        field: ``(..., rows, columns)``. spacing: of rows and columns in km (or any one unit); the geometric mean turns
            intervals into lengths.

    Raises:
        ShapeError: there are fewer than two rows or columns. InputError: a value is complex, NaN or infinite.

    Source: Denis, Cote and Laprise 2002, Monthly Weather Review 130, 1812, section 3.
    """
    from scipy.fft import dctn

    x = _finite(field)
    if x.ndim < 2 or min(x.shape[-2:]) < 2:
        raise ShapeError(f"area_spectrum got a field {tuple(x.shape)}; expected at least two rows and columns")
    rows, columns = x.shape[-2:]
    power = torch.from_numpy(dctn(x.cpu().numpy(), axes=(-2, -1), norm="ortho")) ** 2 / (rows * columns)
    m, n = torch.arange(rows, dtype=torch.float64) / rows, torch.arange(columns, dtype=torch.float64) / columns
    a = (m[:, None] ** 2 + n**2).sqrt()
    longer = max(rows, columns)
    band = (a * longer + 1e-9).floor().long().clamp_max(longer - 1)  # beyond the longer axis' highest: its last band
    out = torch.zeros(*power.shape[:-2], longer, dtype=torch.float64)
    out.index_add_(-1, band.flatten(), (power * (a > 0)).flatten(-2))
    k = torch.arange(1, longer, dtype=torch.float64) + 0.5
    return 2 * longer / k * math.sqrt(spacing[0] * spacing[1]), out[..., 1:]


def _finite(values: Tensor) -> Tensor:
    if values.is_complex() or not bool(values.isfinite().all()):
        raise InputError("a field is complex or holds NaN or infinity; leave what is missing out")
    return values.detach().double()
