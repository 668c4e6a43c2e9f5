"""Centred transforms against the defining sum, and against fastMRI's."""

import math

import pytest
import torch

from invdiff.errors import DTypeError, ShapeError
from invdiff.operators.fourier import fft2c, ifft2c, ramp

SIZES = [(4, 4), (6, 10), (5, 6), (7, 3), (1, 4), (5, 1)]


def dft(n):
    """Return the centred orthonormal DFT matrix, written out."""
    k = torch.arange(n, dtype=torch.float64) - n // 2
    return torch.exp(-2j * math.pi * torch.outer(k, k) / n) / math.sqrt(n)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_fft2c_is_the_centred_orthonormal_sum(height, width):
    x = torch.randn(2, height, width, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    truth = dft(height) @ x @ dft(width).T
    torch.testing.assert_close(fft2c(x), truth, rtol=0, atol=1e-13)
    torch.testing.assert_close(ifft2c(truth), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 8])
def test_ramps_turn_a_plain_fft_into_the_centred_one(n):
    x = torch.randn(n, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    constant = torch.exp(torch.tensor(-2j * math.pi * (n // 2) ** 2 / n, dtype=torch.complex128))
    found = constant * ramp(n) * torch.fft.fft(ramp(n) * x, norm="ortho")
    torch.testing.assert_close(found, dft(n) @ x, rtol=0, atol=1e-13)


def test_ramp_of_an_even_length_is_the_sign_pattern():
    signs = torch.tensor([1, -1, 1, -1, 1, -1], dtype=torch.complex128)
    torch.testing.assert_close(ramp(6), signs, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_agrees_with_fastmri(height, width):
    fastmri = pytest.importorskip("fastmri")
    x = torch.randn(3, height, width, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in ((fft2c, fastmri.fft2c), (ifft2c, fastmri.ifft2c)):
        assert torch.equal(ours(x), torch.view_as_complex(theirs(torch.view_as_real(x))))


def test_errors_name_what_was_found():
    with pytest.raises(DTypeError, match="float32"):
        fft2c(torch.zeros(4, 4))
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        ifft2c(torch.zeros(4, dtype=torch.complex64))
