"""Operators of other libraries: the real ones where they are installed, stand-ins of their interfaces everywhere."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator as ScipyOperator
from scipy.sparse.linalg import aslinearoperator

import invdiff
from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.noise import Gaussian
from invdiff.operators import Matrix
from invdiff.operators.foreign import ForeignLinear, ForeignNonlinear, as_operator
from invdiff.validation.operator_suite import check_operator


def matrix(m, d, complex_=True, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, d)) + (1j * rng.standard_normal((m, d)) if complex_ else 0)


class Physics(torch.nn.Module):
    """The interface of deepinv: a batch of images, an adjoint, and a noise model that must be left out."""

    gain: torch.Tensor
    phase: torch.Tensor

    def __init__(self, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("gain", torch.rand(1, 1, 4, 5, generator=generator))
        self.register_buffer("phase", torch.exp(1j * self.gain))
        self.scale = scale

    def forward(self, x):
        raise AssertionError("adds noise: must not be called")

    def A(self, x, **kwargs):  # noqa: N802 - deepinv's name
        z = self.phase * self.gain * x
        return torch.cat([z.real, z.imag], 1)[..., 1:]

    def A_adjoint(self, y, **kwargs):  # noqa: N802
        y = torch.nn.functional.pad(y, (1, 0))
        return self.scale * (self.phase.conj() * self.gain * torch.complex(y[:, :1], y[:, 1:])).real


class Linop:
    """The interface of sigpy: one numpy array at a time, `H` made on first use and kept."""

    def __init__(self, entries, ishape, oshape):
        self.entries, self.ishape, self.oshape, self.adj = entries, ishape, oshape, None

    def __call__(self, x):
        assert isinstance(x, np.ndarray) and x.shape == tuple(self.ishape)
        return (self.entries.astype(x.dtype) @ x.ravel()).reshape(self.oshape)

    @property
    def H(self):  # noqa: N802
        if self.adj is None:
            self.adj = Linop(self.entries.conj().T, self.oshape, self.ishape)
        return self.adj


class FFT(Linop):
    """Complex whatever comes in."""

    def __call__(self, x):
        return super().__call__(x.astype(np.result_type(x.dtype, np.complex64)))


class Pylops(ScipyOperator):
    """The interface of pylops: scipy's, with shapes in `dims` and `dimsd`."""

    dims, dimsd = (2, 3), (5, 1)

    def __init__(self):
        self.entries = matrix(5, 6, complex_=False)
        super().__init__(np.float64, self.entries.shape)

    def _matvec(self, x):
        assert x.ndim == 1  # ASTRA's, too, refuses the columns that matmat would hand on
        return self.entries @ x

    def _rmatvec(self, y):
        return self.entries.T @ y


CASES = {
    "deepinv": lambda: as_operator(Physics(), (1, 4, 5)),
    "sigpy": lambda: as_operator(Linop(matrix(4, 6), (2, 3), (1, 4)), domain="complex"),
    "sigpy, real": lambda: as_operator(Linop(matrix(4, 6, complex_=False), (2, 3), (4,)), (1, 2, 3)),
    "pylops": lambda: as_operator(Pylops()),
    "scipy, complex": lambda: as_operator(aslinearoperator(matrix(5, 7))),
    "scipy, real x and complex y": lambda: as_operator(aslinearoperator(matrix(5, 6)), (1, 2, 3), domain="real"),
}


@pytest.mark.parametrize("name", CASES)
def test_conformance(name):
    op = CASES[name]()
    assert isinstance(op, ForeignLinear)
    report = check_operator(op)
    assert report.ok, str(report)


def test_values_and_shapes():
    entries = matrix(5, 6, complex_=False)
    op = as_operator(aslinearoperator(entries), (1, 2, 3))
    x = torch.randn(3, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = x.reshape(3, 6) @ torch.from_numpy(entries).T
    torch.testing.assert_close(op.forward(x), expected)
    assert (op.domain_shape, op.range_shape, op.domain, op.range) == ((1, 2, 3), (5,), "real", "real")
    assert as_operator(Pylops()).range_shape == (5, 1) and as_operator(Pylops()).domain_shape == (2, 3)
    physics = Physics()
    y = as_operator(physics, (1, 4, 5)).forward(x := torch.randn(2, 1, 4, 5))
    torch.testing.assert_close(y, physics.A(x))


def test_an_operator_is_returned_as_it_is():
    op = Matrix.example(torch.Generator().manual_seed(0))
    assert as_operator(op) is op


@pytest.mark.parametrize(("real_y", "domain"), [(True, "real"), (False, "complex")])
def test_what_says_no_dtype_takes_that_of_the_data(real_y, domain):
    linop = Linop(matrix(4, 6, complex_=False), (6,), (4,))
    y = torch.zeros(4, dtype=torch.float32 if real_y else torch.complex64)
    op = as_operator(linop, y=y)
    assert op.domain == op.range == domain
    assert as_operator(FFT(matrix(4, 6), (6,), (4,))).domain == "complex"  # real x would give complex data


def test_measurement_takes_them_as_they_are():
    physics, x = Physics(), torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(2))
    measurement = invdiff.Measurement(physics.A(x)[0], physics, Gaussian(0.1))
    assert measurement.operator.domain_shape == (1, 4, 5)
    assert float(measurement.chi2(x)) == 0
    several = invdiff.Measurement(physics.A(x.expand(3, -1, -1, -1)), physics, Gaussian(0.1), batched=True)
    assert several.n_problems == 3
    entries = matrix(6, 4, complex_=False)
    flat = invdiff.Measurement(torch.zeros(2, 3), aslinearoperator(entries), Gaussian(1.0))
    assert flat.operator.range_shape == (2, 3)  # the data's shape, where a library knows lengths only


def test_a_posterior_is_that_of_the_matrix():
    entries = torch.from_numpy(matrix(6, 4, complex_=False)).float()
    y = torch.randn(6, generator=torch.Generator().manual_seed(3))
    draws = [
        invdiff.sample(
            invdiff.Measurement(y, op, Gaussian(0.3)),
            lambda x, sigma: x / (1 + sigma**2),
            sampler="mmps",
            draws=4,
            nfe=12,
            progress=False,
        ).draws.values
        for op in (aslinearoperator(entries.numpy()), Matrix(entries))
    ]
    np.testing.assert_allclose(draws[0], draws[1], rtol=1e-3, atol=1e-4)  # one seed, single precision


def test_precision_and_complex_buffers_follow():
    physics = Physics()
    op = as_operator(physics, (1, 4, 5))
    x = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    double = op.to(torch.float64)
    assert double.forward(x).dtype == torch.float64
    torch.testing.assert_close(double.forward(x).float(), op.forward(x.float()))
    assert physics.gain.dtype == torch.float32 and physics.phase.dtype == torch.complex64  # the caller's own, untouched


def test_under_inference_mode_with_an_adjoint_made_by_autograd():
    class Lazy(Physics):
        def A_adjoint(self, y, **kwargs):  # noqa: N802
            with torch.enable_grad():
                x = torch.zeros(len(y), 1, 4, 5, requires_grad=True)
                return torch.autograd.grad(self.A(x), x, y)[0]

    op = as_operator(Lazy(), (1, 4, 5))
    assert isinstance(op, ForeignLinear)
    with torch.inference_mode():
        y = torch.randn(2, *op.range_shape)
        torch.testing.assert_close(op.adjoint(y), Physics().A_adjoint(y))


def test_nonlinear_physics_is_differentiated():
    class Intensity(Physics):
        def A(self, x, **kwargs):  # noqa: N802
            return super().A(x) ** 2

    op = as_operator(Intensity(), (1, 4, 5))  # it still has an A_adjoint, which is not one
    assert isinstance(op, ForeignNonlinear) and not op.is_linear
    report = check_operator(op)
    assert report.ok, str(report)


@pytest.mark.parametrize("scale", [1.01, -1.0])
def test_a_wrong_adjoint_is_refused(scale):
    with pytest.raises(InputError, match="adjoint of Physics is not that of its forward"):
        as_operator(Physics(scale), (1, 4, 5))


def test_refusals_are_in_words():
    with pytest.raises(DTypeError, match="ndarray is not known.*aslinearoperator"):
        as_operator(np.eye(3))
    with pytest.raises(InputError, match="give domain_shape"):
        as_operator(Physics())
    with pytest.raises(ShapeError, match="acts on 6 numbers"):
        as_operator(Pylops(), (7,))
    with pytest.raises(InputError, match="'real' or 'complex'"):
        as_operator(Pylops(), domain="imaginary")
    with pytest.raises(InputError, match="Physics fails on .* of shape"):
        as_operator(Physics(), (1, 3, 3))
    with pytest.raises(DTypeError, match="gives a tuple"):
        as_operator(type("Two", (), {"A": lambda self, x: (x, x)})(), (2,))
    with pytest.raises(DTypeError, match="of type str is not known"):
        invdiff.Measurement(torch.zeros(3), "mri", Gaussian(1.0))
    with pytest.raises(ShapeError, match="y has shape"):
        invdiff.Measurement(torch.zeros(7), aslinearoperator(matrix(5, 6, complex_=False)), Gaussian(1.0))


def test_sigpy_itself():
    sigpy = pytest.importorskip("sigpy")
    report = check_operator(as_operator(sigpy.linop.FFT((1, 4, 6))))
    assert report.ok, str(report)


def test_pylops_itself():
    pylops = pytest.importorskip("pylops")
    report = check_operator(as_operator(pylops.FirstDerivative((4, 6), axis=0)))
    assert report.ok, str(report)


def test_deepinv_itself():
    deepinv = pytest.importorskip("deepinv", exc_type=ImportError)  # fails to import beside another torchvision
    blur = deepinv.physics.Blur(filter=torch.rand(1, 1, 3, 3), padding="circular")
    report = check_operator(as_operator(blur, (1, 8, 8)))
    assert report.ok, str(report)
