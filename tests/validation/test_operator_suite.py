import json
import math
from importlib.metadata import entry_points

import pytest
import torch

from invdiff import storage
from invdiff.errors import DTypeError, InputError
from invdiff.operators import MRI, Matrix
from invdiff.operators.algebra import Compose, stack
from invdiff.operators.base import LinearOperator, Operator
from invdiff.validation.conformance import Report, Row, at_most, guarded
from invdiff.validation.operator_suite import check_operator

REGISTERED = sorted(entry_points(group="invdiff.operators"), key=lambda p: p.name)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("point", REGISTERED, ids=lambda p: p.name)
def test_registered_operators_conform(point):
    report = check_operator(point.load())
    assert report.ok, str(report)


def test_something_is_registered():
    assert {"mri", "matrix", "identity"} <= {p.name for p in REGISTERED}


class RealFourier(LinearOperator):
    """Linear over the reals only: real x, complex data."""

    domain, range = "real", "complex"
    domain_shape = range_shape = (6,)

    def _forward(self, x):
        return torch.fft.fft(x, norm="ortho")

    def _adjoint(self, y):
        return torch.fft.ifft(y, norm="ortho").real


class Magnitude(Operator):
    """Nonlinear: complex x, real data."""

    domain, range = "complex", "real"
    domain_shape, range_shape = (4,), (2, 2)

    def _forward(self, x):
        return (x.real**2 + x.imag**2).reshape(-1, 2, 2)


def several_problems():
    maps = torch.randn(3, 2, 4, 6, generator=rng(), dtype=torch.complex64)
    return MRI(maps, torch.rand(3, 4, 6, generator=rng(1)) < 0.6)


def algebra():
    a, b = (Matrix(torch.randn(4, 6, generator=rng(i), dtype=torch.complex64)) for i in (0, 1))
    return stack([(2j * a + b)[torch.tensor([True, False, True, True])], Compose(a, Compose(b.H, b)), b[[3, 0]]])


@pytest.mark.parametrize("target", [RealFourier, Magnitude, several_problems, algebra], ids=lambda t: t.__name__)
def test_conforming_operators_pass(target):
    report = check_operator(target() if isinstance(target, type) else target)
    assert report.ok, str(report)


# ---- operators with one fault each, and the check that must find it -------------------------------------------------
class Good(Matrix):
    def __init__(self):
        super().__init__(torch.randn(5, 7, generator=rng(), dtype=torch.complex64))


class WrongConjugate(Good):
    def _adjoint(self, y):
        return y @ self.matrix.to(y.dtype)


class FactorTwo(Good):
    def _adjoint(self, y):
        return 2 * super()._adjoint(y)


class WrongSign(Good):
    def _adjoint(self, y):
        return -super()._adjoint(y)


class ShiftedByOne(LinearOperator):
    domain_shape = range_shape = (16,)

    def _forward(self, x):
        return x.roll(1, -1)

    def _adjoint(self, y):
        return y.roll(-2, -1)


class Affine(Good):
    def _forward(self, x):
        return super()._forward(x) + 1e-3


class ConjugatesInput(Good):  # linear over the reals only, with complex domain and range
    def _forward(self, x):
        return super()._forward(x.conj())

    def _adjoint(self, y):
        return super()._adjoint(y).conj()


class WrongOffRange(Matrix):
    """Right for every y = A x, wrong for what no x can give."""

    def __init__(self):
        super().__init__(torch.randn(7, 5, generator=rng(), dtype=torch.complex64))
        self.off = torch.linalg.svd(self.matrix).U[:, -1]

    def _adjoint(self, y):
        return super()._adjoint(y) + 0.1 * (y @ self.off.conj().to(y.dtype))[:, None]


class WrongNormal(Good):
    def _normal(self, x):
        return 1.001 * super()._normal(x)


class CountsCalls(Good):
    calls = 0

    def _forward(self, x):
        self.calls += 1
        return super()._forward(x)


class CachesInput(Good):
    def _forward(self, x):
        self.last = x
        return super()._forward(x)


class WearsOut(Good):  # changes a buffer in place
    def _forward(self, x):
        self.matrix.mul_(1 - 1e-6)
        return super()._forward(x)


class SpoilsInput(Good):
    def _forward(self, x):
        y = super()._forward(x)
        x.mul_(0.5)
        return y


class Random(Good):
    def _forward(self, x):
        return super()._forward(x) * (1 + 1e-3 * torch.randn(()))


class CouplesBatch(Good):
    def _forward(self, x):
        return super()._forward(x - 1e-4 * x.mean(0))


class Broadcasts(Good):
    """No checks: an x of shape (N, 1) is silently stretched."""

    def forward(self, x):
        return (self.matrix * torch.as_tensor(x)[:, None]).sum(-1)


class NoRankCheck(Good):
    def forward(self, x):
        return x @ self.matrix.mT


class SinglePrecision(Good):
    def _forward(self, x):
        return super()._forward(x.to(torch.complex64)).to(torch.complex64)


class SumsInSingle(Good):  # keeps the dtype but not the precision
    def _forward(self, x):
        return super()._forward(x.to(torch.complex64)).to(x.dtype)


class LeaksOutside(Good):
    def __init__(self):
        super().__init__()
        self.measured = self.range_mask = torch.tensor([True, True, False, True, True])


class MiscountsData(LeaksOutside):
    size = 5

    def _forward(self, x):
        return super()._forward(x) * self.measured

    def _adjoint(self, y):
        return super()._adjoint(y * self.measured)


class HearsOutside(MiscountsData):
    def _adjoint(self, y):
        return Matrix._adjoint(self, y)


class SmallNorm(Good):
    def norm(self, iterations=30, seed=0):
        return 0.9 * super().norm(iterations, seed)


class NotANumber(Good):
    def _forward(self, x):
        return super()._forward(x) / torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])


class TakesWrong(MRI):
    def take(self, problems):
        return super().take([problems[0]] * len(problems))


class Anonymous(Good):
    def __repr__(self):
        return object.__repr__(self)


class Crashes(Good):
    def _adjoint(self, y):
        raise RuntimeError("no such kernel")


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] ** 2 * g


class WrongDerivative(Operator):
    domain_shape = range_shape = (5,)

    def _forward(self, x):
        return WrongGradient.apply(x)


class WrongForwardDerivative(Magnitude):
    def jvp(self, x, u):
        return 1.01 * super().jvp(x, u)


BROKEN = {
    WrongConjugate: "adjoint, single",
    FactorTwo: "adjoint, double",
    WrongSign: "adjoint, single",
    ShiftedByOne: "adjoint, double",
    Affine: "linear, single",
    ConjugatesInput: "linear, double",
    WrongOffRange: "adjoint, double",
    WrongNormal: "normal = adjoint of forward, single",
    CountsCalls: "state unchanged",
    CachesInput: "state unchanged",
    WearsOut: "state unchanged",
    SpoilsInput: "input unchanged",
    Random: "same input, same bits",
    CouplesBatch: "batch = loop, single",
    Broadcasts: "forward refuses what does not fit",
    NoRankCheck: "forward refuses what does not fit",
    SinglePrecision: "dtype kept",
    SumsInSingle: "adjoint, double",
    LeaksOutside: "forward is 0 outside the mask",
    MiscountsData: "size counts the mask",
    HearsOutside: "adjoint ignores what is outside the mask",
    SmallNorm: "norm",
    NotANumber: "finite",
    Anonymous: "repr",
    Crashes: "adjoint",
    WrongDerivative: "derivatives",
    WrongForwardDerivative: "vjp against jvp",
}


@pytest.mark.parametrize(("broken", "check"), BROKEN.items(), ids=lambda v: getattr(v, "__name__", None))
def test_broken_operators_fail(broken, check):
    report = check_operator(broken())
    assert not report.ok
    assert check in report.failed, str(report)


def test_a_complex_inner_product_is_asked_for():
    # Re<A x, y> = Re<x, A^H y> holds for an operator that conjugates; the complex equation does not.
    assert {"adjoint, single", "adjoint, double"} <= set(check_operator(ConjugatesInput()).failed)


def test_the_operator_they_derive_from_passes():
    report = check_operator(Good())
    assert report.ok, str(report)
    assert report["saved and loaded"].passed is None  # not registered, so it cannot be saved and says so


class Forgets(Matrix):
    def state(self):
        return {"matrix": self.matrix.real + 0j}


class WantsMore(Matrix):
    def state(self):
        return {"matrix": self.matrix, "colour": "red"}


@pytest.mark.parametrize("broken", [Forgets, WantsMore])
def test_a_state_that_does_not_build_the_operator_again_fails(broken, monkeypatch):
    monkeypatch.setitem(storage._ALGEBRA, broken.__name__, broken)  # as if it were registered
    assert check_operator(broken).failed == ["saved and loaded"]


def test_taking_the_wrong_problem_fails():
    good = several_problems()
    report = check_operator(TakesWrong(good.coil_maps, good.mask))
    assert "take" in report.failed and "batch = loop, single" not in report.failed


def test_faults_are_found_with_other_seeds_and_larger_sizes():
    class Subtle(LinearOperator):
        """One of 4096 entries of the adjoint has the wrong sign."""

        domain_shape = range_shape = (64, 64)

        def _forward(self, x):
            return x.clone()

        def _adjoint(self, y):
            out = y.clone()
            out[:, 5, 7] *= -1
            return out

    for seed in range(3):
        assert "adjoint, single" in check_operator(Subtle(), seed=seed).failed


def test_targets_that_are_no_operators():
    with pytest.raises(DTypeError, match="no Operator"):
        check_operator(lambda: 3)
    with pytest.raises(DTypeError, match="no Operator"):
        check_operator(torch.zeros(3))
    with pytest.raises(InputError, match="example"):
        check_operator(Magnitude)  # a class has to write example(rng)


def test_factories_with_and_without_a_generator():
    assert check_operator(lambda: Good()).target.startswith("Good")
    assert check_operator(lambda g: Matrix.example(g)).target.startswith("Matrix")


def test_report_reads_and_is_json():
    report = Report("A", [at_most("small", 1e-8, 1e-6), at_most("nan", math.nan, 1.0), Row("noted", None, 3.0)])
    assert not report.ok and report.failed == ["nan"] and report["noted"].value == 3.0
    text = str(report)
    assert "FAIL" in text and "1 of 2 checks passed" in text and all(len(line) < 120 for line in text.splitlines())
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["rows"][1]["value"] == "nan"
    with pytest.raises(KeyError, match="small"):
        report["absent"]


def test_an_empty_report_is_not_ok():
    assert not Report("nothing").ok and not Report("noted", [Row("a", None, 1.0)]).ok


def test_a_crash_is_a_finding():
    def check():
        yield at_most("first", 0.0, 1.0)
        raise ValueError("broke\noff")

    rows = guarded("check", check)
    assert [r.passed for r in rows] == [True, False]
    assert "ValueError: broke off" in rows[1].detail
