"""Exact proximal steps of parallel imaging against dense solves, and through the guidance that uses them."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.guidance.base import NormalEquations
from invdiff.guidance.dds import proximal
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.mri.diagonalised import DiagonalisedMRI
from invdiff.operators.mri.sense import MRI
from invdiff.samplers.spectrum import spectrum
from invdiff.validation.operator_suite import check_operator

COLUMNS = torch.tensor([True, False, True, True, False, False])
CASES = {
    "columns": ((1, 1, 3, 4, 6), COLUMNS),
    "rows": ((1, 1, 3, 6, 5), COLUMNS[:, None]),
    "two sets": ((1, 2, 3, 4, 6), COLUMNS),
    "each": ((2, 1, 3, 4, 6), torch.stack([COLUMNS, ~COLUMNS])[:, None]),
    "shared maps": ((1, 2, 2, 6, 4), torch.stack([COLUMNS, COLUMNS.flip(0)])[..., None]),
    "all": ((1, 1, 2, 3, 5), torch.ones(1)),
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def build(name, dtype=torch.complex128):
    shape, mask = CASES[name]
    return DiagonalisedMRI(randn(*shape, dtype=dtype), mask)


def apart(a, b):
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@pytest.mark.parametrize("shift", [1e-4, 0.3])
@pytest.mark.parametrize("name", CASES)
def test_closed_form_is_the_dense_solve(name, shift):
    op = build(name)
    n = max(2, op.n_problems)
    v, z = randn(n, *op.range_shape, seed=1), randn(n, *op.domain_shape, seed=2)
    damped, ridge = op.damped_inverse(v, shift), op.ridge(z, shift)
    for i in range(n):
        one = op.take([i]) if op.n_problems > 1 else op
        basis = torch.eye(z[0].numel(), dtype=z.dtype).reshape(-1, *op.domain_shape)
        a = MRI(one.coil_maps, one.mask).forward(basis).flatten(1).mT
        gram = a.mH @ a + shift * torch.eye(a.shape[1], dtype=a.dtype)
        assert apart(damped[i].flatten(), torch.linalg.solve(gram, a.mH @ v[i].flatten())) < 1e-10
        assert apart(ridge[i].flatten(), torch.linalg.solve(gram, z[i].flatten())) < 1e-10
        assert abs(one.norm() / float(torch.linalg.matrix_norm(a, 2)) - 1) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_conforms(name):
    report = check_operator(build(name, torch.complex64))
    assert report.ok, str(report)


def test_coefficients_diagonalise_the_normal_operator():
    op = build("two sets")
    x = randn(3, *op.domain_shape, seed=1)
    c = op.analysis(x)
    assert apart(op.synthesis(c), x) < 1e-13
    assert apart(op.analysis(op.normal(x)), op.eigenvalues * c) < 1e-12
    assert int((op.eigenvalues[0] > 0).sum(1).max()) <= 3 * 3  # coils times sampled columns


def test_precision_changes_with_the_operator():
    single = build("columns", torch.complex64)
    v, exact = randn(2, *single.range_shape, seed=1), single.to(torch.float64)
    assert exact.eigenvectors.dtype == torch.complex128
    found = single.damped_inverse(v.to(torch.complex64), 1e-3)
    assert apart(found, exact.damped_inverse(v, 1e-3)) < 1e-3
    assert (
        apart(exact.normal(exact.synthesis(exact.analysis(randn(1, 1, 4, 6)))), exact.normal(randn(1, 1, 4, 6))) < 1e-12
    )


@pytest.mark.parametrize("cropped", [False, True])
def test_proximal_step_is_exact_and_pixels_outside_are_pulled_to_zero(cropped):
    maps = randn(3, 4, 6)
    if cropped:
        maps[:, 1:3, 2] = 0
    op = DiagonalisedMRI(maps, COLUMNS)
    x = randn(1, 1, 4, 6, seed=1)
    y = op.forward(x if op.support is None else x * op.support)[0]
    equations, x0 = NormalEquations(Measurement(y, op, Gaussian(0.1)), "test"), randn(2, 1, 4, 6, seed=2)
    assert equations.closed_proximal(x0, 0.5) is not None
    found = proximal(equations, x0, 0.5, iterations=1)
    rhs = 0.5 * (equations.information - equations.precision(x0))
    expected = x0 + cg(lambda d: d + 0.5 * equations.precision(d), rhs, iterations=300, tolerance=1e-13)
    assert apart(found, expected) < 1e-9


def test_spectrum_for_ddrm_is_that_of_the_dense_matrix():
    op = build("two sets")
    y = op.forward(randn(1, *op.domain_shape, seed=1))
    found = spectrum(Measurement(y[0], op, Gaussian(0.1)), "test")
    a = op.forward(torch.eye(48, dtype=y.dtype).reshape(-1, *op.domain_shape)).flatten(1).mT
    minimum_norm = torch.linalg.pinv(a, rtol=1e-7) @ y.flatten()
    assert apart(found.synthesis(found.data).flatten(), minimum_norm) < 1e-8
    singular = torch.linalg.svdvals(a)
    kept = found.noise.flatten()[found.noise.flatten() > 0]
    torch.testing.assert_close((0.1 / kept).sort(descending=True)[0], singular[: len(kept)], rtol=1e-8, atol=0)


def test_a_mask_over_both_axes_is_refused():
    mask = torch.eye(4, 6)
    with pytest.raises(InputError, match="whole columns"):
        DiagonalisedMRI(randn(2, 4, 6), mask)
    with pytest.raises(InputError, match="0 to 1"):
        build("each").take([2])
