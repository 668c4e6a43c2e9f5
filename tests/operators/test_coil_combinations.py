"""Pre-whitening and coil compression on noise and coils whose answer is known."""

import math

import pytest
import torch

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.mri.coil_mixing import mix_coils
from invdiff.operators.mri.compression import compression_matrix, kept_energy, readout_compression
from invdiff.operators.mri.sense import MRI
from invdiff.operators.mri.whitening import noise_covariance, whitening_matrix

COILS = 5


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def noise(samples, seed=1):
    """Correlated noise of known covariance (complex randn has E|n|^2 = 1)."""
    mixing = randn(COILS, COILS)
    return mixing, mixing @ randn(COILS, samples, seed=seed)


def test_covariance_is_estimated_and_keeps_an_offset():
    samples = 20000
    mixing, scan = noise(samples)
    psi = mixing @ mixing.mH
    # each entry has a standard error of |psi| / sqrt(samples) at most
    assert float((noise_covariance(scan) - psi).abs().max()) < 5 * float(psi.abs().max()) / math.sqrt(samples)
    assert float((noise_covariance(scan + 10) - psi).abs().min()) > 50


def test_whitened_noise_has_sigma_one_per_real_component():
    samples = 20000
    mixing, scan = noise(samples)
    white = mix_coils(whitening_matrix(noise_covariance(scan)), noise(samples, seed=2)[1])
    covariance = white @ white.mH / samples
    error = 5 * 2 * math.sqrt(2 / samples)  # of the estimate, and of the scan that it was made with
    assert float((covariance - 2 * torch.eye(COILS)).abs().max()) < error
    assert abs(float(white.real.std()) - 1) < error
    exact = whitening_matrix(mixing @ mixing.mH)
    torch.testing.assert_close(exact @ mixing @ mixing.mH @ exact.mH, 2 * torch.eye(COILS, dtype=exact.dtype))
    # data with four times the variance of the scan are scaled by half as much
    torch.testing.assert_close(whitening_matrix(mixing @ mixing.mH, 4.0), exact / 2)


def test_mixed_maps_are_the_operator_of_mixed_data():
    maps, mask = randn(1, 2, COILS, 4, 6), torch.tensor([True, False, True, True, False, True])
    matrix, x = randn(3, COILS, seed=3), randn(2, 2, 4, 6, seed=4)
    mixed = MRI(mix_coils(matrix, maps, axis=2), mask)
    y = MRI(maps, mask).forward(x)
    torch.testing.assert_close(mixed.forward(x), mix_coils(matrix, y, axis=1))
    torch.testing.assert_close(mix_coils(matrix, y, 1)[:, 1], torch.einsum("j,bjhw->bhw", matrix[1], y))


def test_compression_keeps_all_of_a_signal_of_low_rank():
    kspace = torch.tensordot(randn(8, 3), randn(3, 10, 12, seed=1), dims=1)
    matrix = compression_matrix(kspace, 3)
    torch.testing.assert_close(matrix @ matrix.mH, torch.eye(3, dtype=matrix.dtype))
    small = mix_coils(matrix, kspace)
    torch.testing.assert_close(mix_coils(matrix.mH, small), kspace)
    assert abs(kept_energy(kspace, matrix) - 1) < 1e-12
    energy = [kept_energy(kspace, compression_matrix(kspace, k)) for k in (1, 2, 3)]
    singular = torch.linalg.svdvals(kspace.flatten(1)).square()
    for k in (1, 2, 3):
        assert abs(energy[k - 1] - float(singular[:k].sum() / singular.sum())) < 1e-12


def test_readout_compression_keeps_more_and_is_smooth():
    x = torch.linspace(0.5, 1.5, 40, dtype=torch.float64)
    angle = torch.outer(torch.arange(1, 7), x)[:, None] + torch.arange(2)[None, :, None]
    coils = torch.polar(1 + 0.5 * angle.cos(), angle)  # (coils, parts, readout): two parts at each position
    hybrid = torch.einsum("cpx,pxk->cxk", coils, randn(2, 40, 30))
    matrices = readout_compression(hybrid, 2, window=1)
    torch.testing.assert_close(matrices @ matrices.mH, torch.eye(2, dtype=matrices.dtype).expand(40, 2, 2))
    small = torch.einsum("xij,jxk->ixk", matrices, hybrid)
    share = float(small.abs().square().sum() / hybrid.abs().square().sum())
    assert abs(share - 1) < 1e-12 and kept_energy(hybrid, compression_matrix(hybrid, 2)) < 0.99
    assert float((matrices[1:] - matrices[:-1]).abs().max()) < 0.2  # unaligned, phases jump by up to 2
    assert readout_compression(hybrid, 2, window=3).shape == (40, 2, 6)


def test_bad_input_is_refused():
    scan = randn(COILS, 100)
    with pytest.raises(ShapeError, match="join its readouts"):
        noise_covariance(scan[None])
    with pytest.raises(DTypeError, match="complex"):
        noise_covariance(scan.real)
    with pytest.raises(InputError, match="NaN"):
        noise_covariance(scan * math.nan)
    with pytest.raises(InputError, match="at least 10"):
        noise_covariance(scan[:, :9])
    with pytest.raises(ShapeError, match="coils, coils"):
        whitening_matrix(scan)
    dead = noise_covariance(scan)
    dead[3], dead[:, 3] = 0, 0
    with pytest.raises(InputError, match="coil 3 has no noise"):
        whitening_matrix(dead)
    with pytest.raises(InputError, match="Hermitian"):
        whitening_matrix(scan[:, :COILS])
    for ratio in (0.0, math.nan):
        with pytest.raises(InputError, match="variance_ratio"):
            whitening_matrix(noise_covariance(scan), ratio)
    with pytest.raises(InputError, match="expected 1 to 5"):
        compression_matrix(scan, 6)
    with pytest.raises(ShapeError, match="readout"):
        readout_compression(scan, 2)
    with pytest.raises(InputError, match="odd"):
        readout_compression(scan[:, :, None], 2, window=2)
    with pytest.raises(ShapeError, match="as many coils"):
        mix_coils(randn(2, 4), scan)
    with pytest.raises(DTypeError, match="complex"):
        mix_coils(randn(2, COILS).real, scan)
