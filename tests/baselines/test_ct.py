import math

import pytest
import torch

from invdiff.baselines.cgls import cgls
from invdiff.baselines.fbp import filtered_backprojection
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ParallelCT, fbp
from invdiff.operators.matrix import Matrix


def scan(views: int = 40) -> tuple[torch.Tensor, ParallelCT, Measurement]:
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    truth = (((y - 10) ** 2 + (x - 13) ** 2 < 40).float() * 0.03)[None, None]
    op = ParallelCT((24, 24), torch.arange(views) * math.pi / views, 34)
    sigma = torch.linspace(0.005, 0.02, 34)
    rng = torch.Generator().manual_seed(0)
    return truth, op, Measurement(Gaussian(sigma).sample(op.forward(truth), rng)[0], op, Gaussian(sigma))


def test_filtered_backprojection_is_the_operator_s_own_with_a_window() -> None:
    truth, op, m = scan()
    torch.testing.assert_close(
        filtered_backprojection(m, 0.6), fbp(op, m.data, window="hann", cutoff=0.6), rtol=0, atol=0
    )
    error = [float((filtered_backprojection(m, c) - truth).norm()) for c in (0.1, 1.0)]
    assert error[1] < error[0]


def test_cgls_follows_the_weighted_normal_equations() -> None:
    # With as many steps as unknowns it is the weighted least-squares solution.
    a = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.arange(12.0, dtype=torch.float64)
    sigma = torch.linspace(0.5, 2, 12, dtype=torch.float64)
    m = Measurement(y, Matrix(a), Gaussian(sigma))
    expected = torch.linalg.lstsq(a / sigma[:, None], (y / sigma)[:, None]).solution[:, 0]
    torch.testing.assert_close(cgls(m, 5)[0], expected, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(cgls(m, 2)[0], expected, rtol=1e-2)


def test_more_steps_fit_the_data_better() -> None:
    truth, _, m = scan()
    fits = [float(m.chi2(cgls(m, n))) for n in (2, 6, 20)]
    assert fits[0] > fits[1] > fits[2]
    assert float((cgls(m, 6) - truth).norm() / truth.norm()) < 0.4


def test_what_is_no_tomograph_is_refused() -> None:
    m = Measurement(torch.ones(3), Matrix(torch.eye(3)), Gaussian(1.0))
    with pytest.raises(InputError, match="tomograph"):
        filtered_backprojection(m)
    with pytest.raises(InputError, match="iteration"):
        cgls(m, 0)
