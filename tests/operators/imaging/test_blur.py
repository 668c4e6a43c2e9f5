"""Blurs against direct convolutions, and the kernels against their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from invdiff.errors import InputError, ShapeError
from invdiff.operators import Blur, SpaceVariantBlur
from invdiff.operators.imaging import psf as kernels

MODES = {"periodic": "grid-wrap", "reflect": "mirror", "zero": "constant"}


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def direct(x, kernel, boundary, centre):
    """One channel by scipy's direct convolution."""
    if boundary == "valid":
        return signal.convolve(x, kernel, mode="valid", method="direct")
    origin = [c - k // 2 for c, k in zip(centre, kernel.shape, strict=True)]
    origin = [-o if k % 2 else -o for o, k in zip(origin, kernel.shape, strict=True)]
    # scipy's convolve reverses the kernel about its own centre; an even kernel's is one lower there.
    return ndimage.convolve(x, kernel, mode=MODES[boundary], origin=[-o for o in origin])


@pytest.mark.parametrize("domain", ["real", "complex"])
@pytest.mark.parametrize(("space", "size", "centre"), [
    ((11,), (5,), None), ((9, 8), (3, 5), None), ((9, 8), (5, 3), (0, 2)), ((6, 7), (5, 7), None),
    ((5, 6, 7), (3, 1, 5), None),
])  # fmt: skip
@pytest.mark.parametrize("boundary", ["periodic", "reflect", "zero", "valid"])
def test_equals_direct_convolution(boundary, space, size, centre, domain):
    kernel = randn(2, *size)
    op = Blur(kernel, (2, *space), boundary, centre, domain)
    x = randn(3, 2, *space, seed=1, dtype=torch.complex128 if domain == "complex" else torch.float64)
    y = op.forward(x)
    at = op.centre
    for n in range(3):
        for c in range(2):
            parts = [x[n, c].real, x[n, c].imag] if domain == "complex" else [x[n, c]]
            expected = [direct(p.numpy(), kernel[c].numpy(), boundary, at) for p in parts]
            found = [y[n, c].real, y[n, c].imag] if domain == "complex" else [y[n, c]]
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a.numpy(), b, atol=1e-12)


@pytest.mark.parametrize("boundary", ["periodic", "zero", "reflect"])
@pytest.mark.parametrize("centre", [(1, 2), (0, 0), (3, 1)])
def test_a_point_becomes_the_kernel_about_it(boundary, centre):
    kernel = randn(4, 4)  # even lengths: the centre is named
    op = Blur(kernel, (1, 12, 12), boundary, centre)
    x = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    x[0, 0, 6, 5] = 1
    r, c = 6 - centre[0], 5 - centre[1]
    y = op.forward(x)[0, 0]
    torch.testing.assert_close(y[r : r + 4, c : c + 4], kernel, rtol=0, atol=1e-13)
    assert float(y.abs().sum()) == pytest.approx(float(kernel.abs().sum()))


def test_single_precision_adjoint_at_size():
    for boundary in ("periodic", "reflect", "zero", "valid"):
        op = Blur(kernels.gaussian_psf(2.0), (1, 61, 64), boundary)
        x, y = randn(2, 1, 61, 64, dtype=torch.float32), randn(2, *op.range_shape, seed=1, dtype=torch.float32)
        ax = op.forward(x)
        gap = (ax.double() * y.double()).sum() - (x.double() * op.adjoint(y).double()).sum()
        assert abs(float(gap)) < 1e-6 * float(ax.norm() * y.norm())


def test_space_variant_is_the_sum_over_points():
    ks, ws = randn(3, 3, 3), randn(3, 8, 7)
    x = randn(2, 1, 8, 7, seed=4)
    for boundary in ("periodic", "reflect", "zero", "valid"):
        found = SpaceVariantBlur(ks, ws, (1, 8, 7), boundary).forward(x)
        expected = sum(Blur(k, (1, 8, 7), boundary).forward(x * w) for k, w in zip(ks, ws, strict=True))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    op = SpaceVariantBlur(ks, ws, (1, 8, 7), domain="complex")
    z = torch.complex(x, randn(2, 1, 8, 7, seed=5))
    real = SpaceVariantBlur(ks, ws, (1, 8, 7))
    expected = torch.complex(real.forward(z.real), real.forward(z.imag))
    torch.testing.assert_close(op.forward(z), expected, rtol=0, atol=1e-12)


def test_tiles_and_compression():
    weights = kernels.tile_weights((12, 18), (2, 3))
    assert weights.shape == (6, 12, 18)
    torch.testing.assert_close(weights.sum(0), torch.ones(12, 18))
    # the centre of tile (1, 2) lies between pixels 8, 9 and 14, 15: alone there
    torch.testing.assert_close(weights[5, 9, 15], torch.tensor(1.0), rtol=0, atol=0.25)
    assert float(weights[0, :3, :3].min()) == 1.0  # beyond the outermost centres
    base = randn(2, 5, 5, dtype=torch.float32)
    mixed = torch.tensordot(randn(6, 2, seed=1, dtype=torch.float32), base, 1)
    few, ws, error = kernels.compress(mixed, weights, 2)
    assert error < 1e-6 and len(few) == 2
    x = randn(1, 1, 12, 18, dtype=torch.float32)
    full = SpaceVariantBlur(mixed, weights, (1, 12, 18)).forward(x)
    torch.testing.assert_close(SpaceVariantBlur(few, ws, (1, 12, 18)).forward(x), full, rtol=0, atol=1e-4)
    assert kernels.compress(mixed, weights, 1)[2] > 0.05


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="larger|crop"):
        Blur(randn(9, 3), (1, 8, 8))
    with pytest.raises(InputError, match="no central pixel"):
        Blur(randn(4, 3), (1, 8, 8))
    with pytest.raises(InputError, match="index into"):
        Blur(randn(4, 3), (1, 8, 8), centre=(4, 0))
    with pytest.raises(InputError, match="boundary 'mirror'"):
        Blur(randn(3, 3), (1, 8, 8), "mirror")
    with pytest.raises(InputError, match="NaN"):
        Blur(torch.full((3, 3), math.nan), (1, 8, 8))
    with pytest.raises(ShapeError, match="one axis"):
        Blur(randn(3, 3, 3), (2, 8, 8))
    with pytest.raises(InputError, match="domain"):
        Blur(randn(3, 3, dtype=torch.complex128), (1, 8, 8))
    with pytest.raises(ShapeError, match="weights"):
        SpaceVariantBlur(randn(2, 3, 3), randn(2, 7, 8), (1, 8, 8))


def moments(kernel):
    """Mean position about the centre and standard deviation, by axis."""
    out = []
    for axis, n in enumerate(kernel.shape):
        line = kernel.double().sum([a for a in range(kernel.ndim) if a != axis])
        at = torch.arange(n, dtype=torch.float64) - n // 2
        mean = float((line * at).sum())
        out.append((mean, math.sqrt(max(float((line * (at - mean) ** 2).sum()), 0))))
    return out


def test_gaussian():
    kernel = kernels.gaussian_psf((1.5, 0.0, 0.8))
    assert kernel.shape == (13, 1, 9) and float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    for (mean, sd), sigma in zip(moments(kernel), (1.5, 0, 0.8), strict=True):
        # integration over a pixel adds 1/12 to the variance (none where there is no blur); 4 sd are kept
        assert mean == pytest.approx(0, abs=1e-6)
        assert sd == pytest.approx(math.sqrt(sigma**2 + (1 / 12 if sigma else 0)), rel=2e-3, abs=1e-12)
    assert kernels.gaussian_psf(1.0, ndim=3).ndim == 3
    with pytest.raises(InputError, match="sigma"):
        kernels.gaussian_psf(-1.0)


def test_motion():
    kernel = kernels.motion_psf(9.0, 0.0)
    assert kernel.shape == (1, 11)
    (_, sd) = moments(kernel)[1]
    assert sd == pytest.approx(math.sqrt(81 / 12 + 1 / 6), rel=0.02)  # uniform, shared linearly between pixels
    upright = kernels.motion_psf(9.0, 90.0)
    torch.testing.assert_close(upright, kernel.mT, rtol=0, atol=1e-6)
    slanted = kernels.motion_psf(8.0, 45.0).double()
    h, w = slanted.shape
    rows, cols = torch.arange(h)[:, None] - h // 2, torch.arange(w) - w // 2
    assert float((slanted * rows * cols).sum()) < -1  # up to the right: rows fall as columns rise
    torch.testing.assert_close(kernels.motion_psf(0.0, 30.0), torch.ones(1, 1))
    path = kernels.path_psf(torch.tensor([[0.0, 0.0], [2.0, -1.0]]))
    assert path.shape == (5, 3) and float(path[4, 0]) == 0.5 and float(path[2, 1]) == 0.5
    with pytest.raises(InputError, match="NaN"):
        kernels.path_psf(torch.tensor([[0.0, math.nan]]))


def test_airy():
    wavelength, aperture, pixel = 0.5, 0.6, 0.02  # micrometres; the first dark ring is at 25.4 pixels
    kernel = kernels.airy_psf(wavelength, aperture, pixel, oversample=2)
    half = kernel.shape[0] // 2
    line = kernel[half, half:]
    ring = int(line[:40].argmin())
    assert abs(ring - 0.61 * wavelength / aperture / pixel) <= 1
    # 83.8 % of the light is inside the first dark ring (Born and Wolf); some of the rest is outside the kernel
    r = torch.hypot(*(torch.arange(-half, half + 1.0)[s] for s in ((slice(None), None), (None, slice(None)))))
    assert 0.838 <= float(kernel[r <= 25.4].sum()) < 0.89
    with pytest.raises(InputError, match="above 0"):
        kernels.airy_psf(0.5, 0.0, 0.1)


def test_measured():
    true = kernels.gaussian_psf((1.2, 0.7), truncate=3)
    image = torch.full((30, 40), 5.0)
    image[12 - 4 : 12 + 5, 20 - 3 : 20 + 4] += 100 * true
    torch.testing.assert_close(kernels.measured_psf(image, (4, 3), background=5.0), true, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="near to the edge"):
        kernels.measured_psf(image, 20)
    with pytest.raises(InputError, match="no light"):
        kernels.measured_psf(image, 2, background=1e4)
