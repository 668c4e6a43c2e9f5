"""The same operators in other libraries: built from ours, so that geometry, maps and points are the same numbers.

Each function takes our operator and the device, and returns `Maps` on batches of the library's own arrays. One that
is not installed, or cannot be imported, is reported by name; nothing of invdiff imports any of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["PEERS", "Maps", "why_missing"]


class Maps(NamedTuple):
    """Forward, adjoint and normal on a batch; x and y arrive as our tensors and are prepared once by `x`, `y`."""

    forward: Callable[[Any], Any]
    adjoint: Callable[[Any], Any] | None
    normal: Callable[[Any], Any] | None = None
    x: Callable[[torch.Tensor], Any] = lambda x: x
    y: Callable[[torch.Tensor], Any] = lambda y: y


def why_missing(library: str) -> str:
    """Empty where the library can be imported, else the reason in a few words."""
    module = {"scikit-image": "skimage", "astra": "astra"}.get(library.split(",")[0], library.split(",")[0])
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return "not installed" if error.name == module else f"cannot be imported: {error}"
    except Exception as error:  # noqa: BLE001 - a broken installation can fail in any way
        return f"cannot be imported: {' '.join(str(error).split())[:120]}"
    return ""


def _each(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """For libraries without a batch axis."""
    return lambda batch: np.stack([call(item) for item in batch])


def _numpy(shape: tuple[int, ...] | None = None) -> Callable[[torch.Tensor], Any]:
    return lambda t: t.cpu().numpy() if shape is None else t.cpu().reshape(len(t), *shape).numpy()


# ---- magnetic resonance ------------------------------------------------------------------------------------------
def _sigpy_mri(op: Any, device: str) -> Maps:
    import sigpy.mri.linop

    a = sigpy.mri.linop.Sense(op.coil_maps[0, 0].numpy(), weights=op.mask[0].expand(op.range_shape[1:]).float().numpy())
    n = op.domain_shape[1:]
    return Maps(_each(a), _each(a.H), _each(a.N), _numpy(n), _numpy())


def _deepinv_mri(op: Any, device: str) -> Maps:
    from deepinv.physics import MultiCoilMRI

    mask = op.mask[0].expand(op.range_shape[1:]).float()[None, None]
    a = MultiCoilMRI(mask=mask, coil_maps=op.coil_maps[0], img_size=op.domain_shape[1:], device=device)

    def packed(t: torch.Tensor) -> torch.Tensor:  # complex numbers are two channels there: (N, 2, [coils,] H, W)
        t = t[:, 0] if t.shape[1] == 1 else t
        return torch.view_as_real(t).movedim(-1, 1).contiguous().to(device)

    return Maps(a.A, a.A_adjoint, a.A_adjoint_A, packed, packed)


def _radians(op: Any) -> Any:
    return op.trajectory[0].double() * 2 * torch.pi


def _finufft(op: Any, device: str) -> Maps:
    """Bare plans of finufft's guru interface, made once; the maps are multiplied in numpy."""
    import finufft

    shape, maps, points = op.domain_shape[1:], op.coil_maps[0, 0].numpy(), _radians(op).numpy()
    scale = np.float32(1 / np.sqrt(np.prod(shape)))
    options = {"n_trans": len(maps), "eps": 1e-6, "dtype": "complex64", "nthreads": torch.get_num_threads()}
    plans = [finufft.Plan(kind, shape, isign=sign, **options) for kind, sign in ((2, -1), (1, 1))]
    for plan in plans:
        plan.setpts(*(np.ascontiguousarray(c, dtype=np.float32) for c in points.T))
    return Maps(
        _each(lambda x: scale * plans[0].execute(maps * x)),
        _each(lambda y: scale * (maps.conj() * plans[1].execute(y)).sum(0)),
        None,
        _numpy(shape),
        _numpy(),
    )


def _torchkbnufft(op: Any, device: str) -> Maps:
    import torchkbnufft

    shape = tuple(op.domain_shape[1:])
    points, maps = _radians(op).float().T.contiguous().to(device), op.coil_maps[0].to(device)
    go, back = (cls(im_size=shape).to(device) for cls in (torchkbnufft.KbNufft, torchkbnufft.KbNufftAdjoint))
    kernel = torchkbnufft.calc_toeplitz_kernel(points, shape, norm="ortho")
    toeplitz = torchkbnufft.ToepNufft().to(device)
    to = lambda t: t.to(device)  # noqa: E731
    return Maps(
        lambda x: go(x, points, smaps=maps, norm="ortho"),
        lambda y: back(y, points, smaps=maps, norm="ortho"),
        # One by one: of a batch that shares its maps it returns the first image only.
        lambda x: torch.cat([toeplitz(item[None], kernel, smaps=maps, norm="ortho") for item in x]),
        to,
        to,
    )


def _sigpy_nufft(op: Any, device: str) -> Maps:
    import sigpy.mri.linop

    shape = op.domain_shape[1:]
    coordinates = op.trajectory[0].double().numpy() * np.array(shape)
    a = sigpy.mri.linop.Sense(op.coil_maps[0, 0].numpy(), coord=coordinates.astype(np.float32))
    return Maps(_each(a), _each(a.H), _each(a.N), _numpy(shape), _numpy())


# ---- tomography --------------------------------------------------------------------------------------------------
def _astra(op: Any, device: str) -> Maps:
    import astra

    g = op.geometry
    n, angles = op.domain_shape[1:], np.asarray(g.angles, dtype=np.float64)
    if type(op).__name__ == "FanCT":
        beam = astra.create_proj_geom(
            "fanflat", 1.2, g.channels, angles, float(g.source_axis), float(g.source_detector - g.source_axis)
        )
        kind = "line_fanflat"
    else:
        beam, kind = astra.create_proj_geom("parallel", 1.0, g.channels, angles), "linear"
    a = astra.OpTomo(astra.create_projector(kind, beam, astra.create_vol_geom(*n)))
    return Maps(_each(a.matvec), _each(a.rmatvec), None, _numpy((-1,)), _numpy((-1,)))


def _deepinv_ct(op: Any, device: str) -> Maps:
    from deepinv.physics import Tomography

    angles = torch.rad2deg(torch.as_tensor(op.geometry.angles)).float()
    a = Tomography(angles=angles, img_width=op.domain_shape[-1], circle=False, normalize=False, device=device)
    to = lambda t: t.to(device)  # noqa: E731
    # Its sinograms are (N, 1, detector, angles), with as many detector pixels as the diagonal has.
    return Maps(a.A, a.A_adjoint, a.A_adjoint_A, to, lambda y: y.movedim(1, -1)[:, None].contiguous().to(device))


def _skimage_ct(op: Any, device: str) -> Maps:
    from skimage.transform import iradon, radon

    degrees, n = np.rad2deg(np.asarray(op.geometry.angles)), op.domain_shape[-1]

    def back(y: Any) -> Any:  # unfiltered, without the factor of a filtered back-projection
        return iradon(y.T, degrees, filter_name=None, circle=False, output_size=n) * (2 * len(degrees) / np.pi)

    return Maps(
        _each(lambda x: radon(x, degrees, circle=False).T), _each(back), None, _numpy(op.domain_shape[1:]), _numpy()
    )


# ---- images and fields -------------------------------------------------------------------------------------------
def _deepinv_blur(op: Any, device: str) -> Maps:
    from deepinv.physics import BlurFFT

    a = BlurFFT(img_size=op.domain_shape, filter=op.kernel[None].float(), device=device)
    to = lambda t: t.to(device)  # noqa: E731
    return Maps(a.A, a.A_adjoint, a.A_adjoint_A, to, to)


def _deepinv_resample(op: Any, device: str) -> Maps:
    from deepinv.physics import Downsampling

    factor = op.domain_shape[-1] // op.range_shape[-1]
    a = Downsampling(img_size=op.domain_shape, filter="bicubic", factor=factor, device=device)
    to = lambda t: t.to(device)  # noqa: E731
    return Maps(a.A, a.A_adjoint, a.A_adjoint_A, to, to)


def _skimage_resample(op: Any, device: str) -> Maps:
    from skimage.transform import resize

    shape = op.range_shape
    return Maps(_each(lambda x: resize(x, shape, order=3, anti_aliasing=True)), None, None, _numpy(), _numpy())


def _deepinv_inpainting(op: Any, device: str) -> Maps:
    from deepinv.physics import Inpainting

    a = Inpainting(op.domain_shape, mask=op.range_mask.expand(op.domain_shape).float(), device=device)
    to = lambda t: t.to(device)  # noqa: E731
    return Maps(a.A, a.A_adjoint, a.A_adjoint_A, to, to)


def _sigpy_sensors(op: Any, device: str) -> Maps:
    """Bilinear interpolation of one field after the other at indices; the seam at longitude 360 is left out."""
    import sigpy.linop

    lat, lon = op.axes
    indices = np.stack([(op.points[:, i] - a[0]).numpy() / float(a[1] - a[0]) for i, a in enumerate((lat, lon))], 1)
    a = sigpy.linop.Interpolate(op.domain_shape, indices.astype(np.float32), kernel="spline", width=2, param=1)
    return Maps(_each(a), _each(a.H), _each(a.N), _numpy(), _numpy())


def _sigpy_fourier(op: Any, device: str) -> Maps:
    import sigpy.linop

    a = sigpy.linop.FFT(op.domain_shape, axes=op.axes)
    return Maps(_each(a), _each(a.H), _each(a.N), _numpy(), _numpy())


Builder = Callable[[Any, str], Maps]
PEERS: dict[str, dict[str, Builder]] = {
    "mri": {"sigpy": _sigpy_mri, "deepinv": _deepinv_mri},
    "nufft": {"finufft": _finufft, "torchkbnufft": _torchkbnufft, "sigpy": _sigpy_nufft},
    "ct-parallel": {"astra": _astra, "deepinv": _deepinv_ct, "scikit-image": _skimage_ct},
    "ct-fan": {"astra": _astra},
    "blur": {"deepinv": _deepinv_blur},
    "resample": {"deepinv": _deepinv_resample, "scikit-image": _skimage_resample},
    "inpainting": {"deepinv": _deepinv_inpainting},
    "point-sensors": {"sigpy": _sigpy_sensors},
    "fourier": {"sigpy": _sigpy_fourier},
}
ON_GPU = ("deepinv", "torchkbnufft")  # the others here compute on the CPU
