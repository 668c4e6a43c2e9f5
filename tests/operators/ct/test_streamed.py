import math

import pytest
import torch

from invdiff.errors import DTypeError, InputError
from invdiff.guidance.base import NormalEquations
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ConeCT, ParallelCT
from invdiff.operators.ct.streamed import Streamed, streamed
from invdiff.operators.matrix import Identity
from invdiff.validation.operator_suite import check_operator

ANGLES = torch.arange(7) * math.pi / 7


def cone():
    return ConeCT((4, 6, 6), 2 * ANGLES, (7, 11), source_axis=20.0, source_detector=30.0, backend="torch")


@pytest.mark.parametrize("views", [1, 3, 7, 20])
def test_blocks_change_nothing(views):
    op = cone()
    parts = Streamed(op, views)
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 4, 6, 6, generator=rng), torch.randn(2, 7, 7, 11, generator=rng)
    w = torch.rand(1, 7, 7, 11, generator=rng)
    torch.testing.assert_close(parts.forward(x), op.forward(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.adjoint(y), op.adjoint(y), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parts.normal(x), op.normal(x), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(parts.weighted_normal(x, w), op.adjoint(w * op.forward(x)), rtol=1e-4, atol=1e-3)


def test_it_is_an_operator():
    report = check_operator(Streamed)
    assert report.ok, str(report)


def test_normal_equations_stream_weights(monkeypatch):
    parts = Streamed(cone(), 2)
    rng = torch.Generator().manual_seed(0)
    sigma, y = 0.5 + torch.rand(7, 7, 11, generator=rng), torch.randn(7, 7, 11, generator=rng)
    x = torch.randn(1, 1, 4, 6, 6, generator=rng)
    whole = NormalEquations(Measurement(y, cone(), Gaussian(sigma)), "test").precision(x)
    equations = NormalEquations(Measurement(y, parts, Gaussian(sigma)), "test")
    monkeypatch.setattr(Streamed, "_forward", None)  # no projection of all views is asked for
    torch.testing.assert_close(equations.precision(x), whole, rtol=1e-4, atol=1e-3)


def test_only_what_is_large_is_streamed():
    op = cone()
    size = 4 * 7 * 7 * 11
    assert streamed(op, 16 * size + 64) is op
    small = streamed(op, 4 * size)
    assert isinstance(small, Streamed) and small.views == 1
    stored = ParallelCT((6, 6), ANGLES, 11, backend="matrix")
    assert streamed(stored, 1) is stored and isinstance(streamed(Identity((3,)), 1), Identity)
    with pytest.raises(InputError, match="with a matrix"):
        Streamed(stored)
    with pytest.raises(DTypeError):
        Streamed(Identity((3,)))  # type: ignore[arg-type]
