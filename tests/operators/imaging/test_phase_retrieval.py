import pytest
import torch

from invdiff.errors import DTypeError, InputError
from invdiff.operators import Matrix, PhaseRetrieval
from invdiff.validation.operator_suite import check_operator


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_conforms(power, dtype):
    report = check_operator(PhaseRetrieval(Matrix(torch.randn(6, 4, generator=rng(), dtype=dtype)), power))
    assert report.ok, str(report)


def test_values_and_derivative_by_hand():
    op = PhaseRetrieval(Matrix(torch.tensor([[3.0 + 4.0j]])))
    x, u = torch.tensor([[1.0 + 0.0j]]), torch.tensor([[0.0 + 1.0j]])
    assert float(op(x)) == pytest.approx(5.0)  # |3 + 4i|
    assert float(op.jvp(x, u)) == pytest.approx(0.0, abs=1e-6)  # a turn of the phase changes nothing
    assert float(op.jvp(x, x)) == pytest.approx(5.0)
    square = PhaseRetrieval(Matrix(torch.tensor([[3.0 + 4.0j]])), power=2)
    assert float(square(x)) == pytest.approx(25.0) and float(square.jvp(x, x)) == pytest.approx(50.0)


def test_no_gradient_at_zero():
    op = PhaseRetrieval(Matrix(torch.eye(2)))
    assert torch.equal(op.vjp(torch.zeros(1, 2), torch.ones(1, 2)), torch.zeros(1, 2))


def test_what_it_refuses():
    wrong: object = torch.eye(2)
    with pytest.raises(DTypeError, match="LinearOperator"):
        PhaseRetrieval(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="power"):
        PhaseRetrieval(Matrix(torch.eye(2)), power=3)
