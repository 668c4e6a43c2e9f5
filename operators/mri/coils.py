"""Coil sensitivities from the calibration region of k-space: ESPIRiT.

Every k x k patch of multi-coil k-space, all coils together, is a vector of length coils * k^2, and these vectors
fill a low-dimensional space because the coil images share one image. Projection onto that space is a convolution in
k-space, hence a matrix G(r) (coils x coils) at every pixel r of the image, and the sensitivities at r are the
eigenvectors of G(r) for the eigenvalue 1.

Uecker et al., "ESPIRiT - an eigenvalue approach to autocalibrating parallel MRI", Magn. Reson. Med. 71 (2014).

G(r) is a trigonometric polynomial of degree k - 1, so it is found from its (2k-1)^2 coefficients; the eigenvectors
vary just as slowly, so they are computed on a coarse grid, carried to the full one, and improved there by a few
steps of subspace iteration with the exact G(r).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError

__all__ = ["calibration_region", "espirit"]

_SIDE = 24  # of the calibration region that is used when none is asked for, as in sigpy and BART
_COARSE = 6  # points of the coarse grid for each degree of G(r)
_STEPS = 2  # of subspace iteration on the full grid
_PIECE = 16 << 20  # bytes of G(r) held at a time


def calibration_region(mask: Tensor) -> tuple[slice, slice]:
    """Return the largest fully sampled rectangle of a mask ``(H, W)`` that is centred in k-space.

    A side of length h begins at ``H // 2 - h // 2``. Both slices are empty where the centre itself was not sampled.

    Raises:
        ShapeError: the mask does not have two axes.
    """
    if mask.ndim != 2:
        raise ShapeError(f"calibration_region got a mask of shape {tuple(mask.shape)}; it expects (H, W)")
    mask = mask != 0
    rows, columns = mask.shape
    row, column = rows // 2, columns // 2
    # Sampled without a gap in each row: to the left of the centre column, and from it to the right.
    left = mask[:, :column].flip(1).long().cumprod(1).sum(1)
    right = mask[:, column:].long().cumprod(1).sum(1)
    best = (0, 0)
    for height in range(1, rows + 1):
        first = row - height // 2
        across = int(left[first : first + height].min()), int(right[first : first + height].min())
        width = min(2 * across[0] + 1, 2 * across[1])
        if height * width > best[0] * best[1]:
            best = (height, width)
    (height, width), (top, start) = best, (row - best[0] // 2, column - best[1] // 2)
    return slice(top, top + height), slice(start, start + width)


def espirit(
    kspace: Tensor,
    calibration: tuple[int, int] | None = None,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.95,
    n_sets: int = 1,
    *,
    margin: int = 0,
    phase_reference: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Estimate coil maps from k-space of shape ``(coils, H, W)`` or ``(problems, coils, H, W)``, zero if not sampled.

    Args:
        kspace: complex, centre at ``n // 2``.
        calibration: size of the centred calibration region; by default the largest that is fully sampled in all
            problems, at most 24 x 24.
        kernel: side k of the k-space patches.
        threshold: singular values of the calibration matrix below this fraction of the largest count as noise.
        crop: maps are zero where their eigenvalue is at most this; 0 keeps them everywhere.
        n_sets: number of sets of maps (2 where the object exceeds the field of view).
        margin: grow the support by this many pixels, which keeps the object's rim and closes holes in it.
        phase_reference: eigenvectors have no phase of their own. They are turned so that this coil is real and
            positive; by default the strongest combination of coils (principal component of the calibration data),
            which has fewer zeros than any one coil and so leaves a smoother phase in the image.

    Returns:
        maps ``(problems, sets, coils, H, W)``, with root-sum-of-squares over coils 1 where not cropped, and
        eigenvalues ``(problems, sets, H, W)``, not cropped, close to 1 where the maps explain the data.

    Raises:
        ShapeError: the rank of kspace is wrong. DTypeError: kspace is not complex.
        InputError: kspace holds NaN, an option is out of range, the calibration region is too small, or its data are
            noise.
    """
    single = kspace.ndim == 3
    if kspace.ndim not in (3, 4) or 0 in kspace.shape:
        raise ShapeError(
            f"espirit got kspace of shape {tuple(kspace.shape)}; it expects (coils, H, W) or (problems, coils, H, W)"
        )
    if not kspace.is_complex():
        raise DTypeError(f"espirit got real kspace ({kspace.dtype}); it expects a complex tensor")
    if not bool(torch.isfinite(torch.view_as_real(kspace)).all()):
        raise InputError("espirit got kspace that holds NaN or infinity")
    kspace = kspace[None] if single else kspace
    coils = kspace.shape[1]
    if kernel < 2 or not 0 < threshold < 1 or not 0 <= crop < 1 or not 1 <= n_sets <= coils or margin < 0:
        raise InputError(
            f"espirit got kernel={kernel}, threshold={threshold}, crop={crop}, n_sets={n_sets}, margin={margin};"
            f" it expects kernel >= 2, 0 < threshold < 1, 0 <= crop < 1, 1 <= n_sets <= {coils}, margin >= 0"
        )
    if phase_reference is not None and not 0 <= phase_reference < coils:
        raise InputError(f"espirit got phase_reference={phase_reference}; it expects a coil from 0 to {coils - 1}")

    found = [
        _one(block, kspace.shape[-2:], kernel, threshold, n_sets, phase_reference)
        for block in _calibration_data(kspace, calibration, kernel)
    ]
    maps, values = torch.stack([m for m, _ in found]), torch.stack([v for _, v in found])
    if not bool(torch.isfinite(torch.view_as_real(maps)).all()):
        raise InputError(
            "espirit cannot tell coils from noise: in the calibration data no direction is weaker than"
            f" {threshold:g} of the strongest, so all maps explain them alike. Raise threshold, or give maps measured"
            " otherwise"
        )
    support = (values > crop).to(values.dtype)
    if margin:
        support = torch.nn.functional.max_pool2d(support, 2 * margin + 1, 1, margin)
    return maps.mul_(support[:, :, None]), values


def _calibration_data(kspace: Tensor, size: tuple[int, int] | None, kernel: int) -> Tensor:
    height, width = kspace.shape[-2:]
    rows, columns = calibration_region((kspace != 0).any(1).all(0))
    found = (rows.stop - rows.start, columns.stop - columns.start)
    height_used, width_used = size or (min(found[0], _SIDE), min(found[1], _SIDE))
    if height_used > found[0] or width_used > found[1] or min(height_used, width_used) <= kernel:
        asked = f"; {height_used} x {width_used} was asked for" if size else ""
        raise InputError(
            f"espirit found a fully sampled centre of {found[0]} x {found[1]} in kspace of {height} x {width}{asked}:"
            f" it must be larger than kernel={kernel} in both directions. Ask for a smaller region or kernel, or"
            " give coil maps measured otherwise"
        )
    top, start = height // 2 - height_used // 2, width // 2 - width_used // 2
    return kspace[:, :, top : top + height_used, start : start + width_used]


def _one(
    calib: Tensor, shape: torch.Size, kernel: int, threshold: float, n_sets: int, reference: int | None
) -> tuple[Tensor, Tensor]:
    """Uncropped maps ``(sets, coils, H, W)`` and eigenvalues ``(sets, H, W)`` of one problem."""
    coefficients = _coefficients(calib, kernel, threshold)
    coarse = [min(n, _COARSE * (2 * kernel - 1)) for n in shape]
    waves = [_waves(torch.linspace(0, n - 1, m), n, kernel, coefficients) for n, m in zip(shape, coarse, strict=True)]
    start = torch.linalg.eigh(_evaluate(coefficients, *waves))[1][..., -n_sets:]

    waves = [_waves(torch.arange(n), n, kernel, coefficients) for n in shape]
    maps = calib.new_empty(*shape, calib.shape[0], n_sets)
    values = calib.real.new_empty(*shape, n_sets)
    rows = max(1, _PIECE // (shape[1] * calib.shape[0] ** 2 * calib.element_size()))
    for top in range(0, shape[0], rows):
        part = slice(top, min(top + rows, shape[0]))
        g = _evaluate(coefficients, waves[0][part], waves[1])
        v = _orthonormal(_carry(start, part, shape))
        for _ in range(_STEPS):
            v = _orthonormal(g @ v)
        maps[part], values[part] = _ritz(g, v)

    w = torch.linalg.eigh(torch.einsum("cyx,dyx->cd", calib, calib.conj()))[1][:, -1]
    if reference is not None:
        w = torch.zeros_like(w).index_fill_(0, torch.tensor([reference], device=w.device), 1)
    w = w * torch.sgn(w[w.abs().argmax()]).conj()
    phase = torch.einsum("yxcs,c->yxs", maps, w.conj())
    phase = torch.where(phase == 0, torch.ones_like(phase), torch.sgn(phase))
    maps = maps * phase.conj()[:, :, None]
    return maps.permute(3, 2, 0, 1).contiguous(), values.permute(2, 0, 1).contiguous()


def _coefficients(calib: Tensor, k: int, threshold: float) -> Tensor:
    """Coefficients ``(2k-1, 2k-1, coils, coils)`` of ``G(r) = sum_d G_d exp(2 pi i d r / n)``, d from -(k-1) to k-1."""
    coils = calib.shape[0]
    patches = calib.unfold(1, k, 1).unfold(2, k, 1).permute(1, 2, 0, 3, 4).reshape(-1, coils * k * k)
    few = patches.shape[0] < patches.shape[1]
    gram = patches @ patches.mH if few else patches.mT @ patches.conj()
    if not bool(torch.isfinite(torch.view_as_real(gram)).all()) or not bool(gram.diagonal().real.sum() > 0):
        raise InputError(
            f"espirit got calibration data up to {float(calib.abs().max()):.3g}, whose squares are no numbers of"
            f" {calib.dtype}; scale the k-space"
        )
    power, u = torch.linalg.eigh(gram)
    keep = power > threshold**2 * power[-1]
    space = patches.mT @ (u[:, keep].conj() / power[keep].sqrt()) if few else u[:, keep]
    kernels = space.mT.reshape(-1, coils, k, k)
    side = 2 * k - 1
    # The product of transforms padded to 2k-1 points is the transform of all lags, without wrapping.
    f = torch.fft.fft2(kernels, s=(side, side)).permute(2, 3, 1, 0)
    return torch.fft.fftshift(torch.fft.ifft2(f @ f.mH, dim=(0, 1)), dim=(0, 1)) / k**2


def _waves(position: Tensor, n: int, k: int, like: Tensor) -> Tensor:
    """``exp(2 pi i d (r - n//2) / n)`` for positions r and d = -(k-1) ... k-1, shape (positions, 2k-1)."""
    turns = torch.outer(position.double() - n // 2, torch.arange(1 - k, k).double()) / n
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns).to(like)


def _evaluate(coefficients: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """G on the grid rows x columns, shape (rows, columns, coils, coils)."""
    side, coils = coefficients.shape[0], coefficients.shape[-1]
    half = (rows @ coefficients.reshape(side, -1)).reshape(rows.shape[0], side, -1)
    return (columns @ half).reshape(rows.shape[0], columns.shape[0], coils, coils)


def _carry(start: Tensor, part: slice, shape: torch.Size) -> Tensor:
    """Interpolate eigenspaces from the coarse grid to rows `part` of the full one.

    Single eigenvectors cannot be interpolated (phase and order are arbitrary at each point) but projectors can: the
    interpolated ``sum_j w_j V_j V_j^H`` is applied to the eigenvectors V_0 of one corner.
    """
    cells = []
    for n, m, wanted in ((shape[0], start.shape[0], part), (shape[1], start.shape[1], slice(0, shape[1]))):
        at = torch.arange(wanted.start, wanted.stop).to(start.real) * ((m - 1) / max(n - 1, 1))
        low = at.floor().long().clamp(max=max(m - 2, 0))
        cells.append((low, (low + 1).clamp(max=m - 1), at - low))
    (y0, y1, fy), (x0, x1, fx) = cells
    first = start[y0][:, x0]
    out = torch.zeros_like(first)
    for y, wy in ((y0, 1 - fy), (y1, fy)):
        for x, wx in ((x0, 1 - fx), (x1, fx)):
            weight = (wy[:, None] * wx)[..., None]
            for v in start[y][:, x].unbind(-1):  # element-wise: a batch of tiny matrix products is slower
                share = weight * torch.linalg.vecdot(v[..., None], first, dim=-2)
                out.addcmul_(v[..., None], share[..., None, :])
    return out


def _orthonormal(v: Tensor) -> Tensor:
    """Gram-Schmidt on the last axis of (..., coils, sets)."""
    columns: list[Tensor] = []
    for column in v.unbind(-1):
        for other in columns:
            column = column - other * torch.linalg.vecdot(other, column)[..., None]
        columns.append(column / torch.linalg.vector_norm(column, dim=-1, keepdim=True))
    return torch.stack(columns, -1)


def _ritz(g: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Best eigenvectors and eigenvalues of g within the span of v, largest first."""
    small = v.mH @ (g @ v)
    if v.shape[-1] == 1:
        return v, small[..., 0].real
    values, turn = torch.linalg.eigh(small)
    return (v @ turn).flip(-1), values.flip(-1)
