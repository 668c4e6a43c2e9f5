"""Weights of many data: none for a Gaussian prior, few and shrunk ones for others."""

import math

import pytest
import torch

from invdiff.guidance.base import Counts
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.matrix import Matrix
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import Streams, generator
from invdiff.samplers.named import sampler
from invdiff.samplers.smc import SMC
from invdiff.samplers.smc_closure import ClosureTwist
from invdiff.sampling import sample
from invdiff.validation.judge import Judge
from invdiff.validation.linear_gaussian import components
from invdiff.validation.suites import families, gaussian_case
from invdiff.validation.weighted import equal_weights


class RealPart(LinearOperator):
    """``y = Re(row x)``, a real number of complex x."""

    domain, range = "complex", "real"

    def __init__(self, row):
        self.row, self.domain_shape, self.range_shape = row, (row.shape[1],), (1,)

    def _forward(self, x):
        return (x @ self.row.mT).real

    def _adjoint(self, y):
        return y.to(self.row.dtype) @ self.row.conj()


def run(case, method, draws):
    return sample(case.measurement, case.prior, method, draws, device="cpu", progress=False)


def alone(twist: str) -> SMC:
    return SMC(25, unit=1, particles=1, twist=twist, threshold=0, keep_weights=True)


@pytest.mark.parametrize(("size", "data", "domain"), [(8, 4, "real"), (60, 60, "real"), (24, 20, "complex")])
def test_every_weight_of_a_gaussian_prior_is_the_evidence(size, data, domain) -> None:
    case = gaussian_case(size, data, generator(3), domain=domain)
    log_w = run(case, alone("closure"), 32).dataset["log_weight"].values
    # Ratios of transition densities scatter by 2 to 6 here. What is left: the start at a finite noise level, and V'.
    assert log_w.std() < 0.03
    assert abs(log_w.mean() - case.exact.log_evidence) < 0.1  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", [100, 400])
def test_the_weights_stay_equal_as_the_data_grow(data) -> None:
    case = gaussian_case(400, data, generator(4))
    found = run(case, alone("closure"), 16)
    assert found.dataset["log_weight"].values.std() < 0.05
    assert "log_evidence" not in found.diagnostics  # its determinant is cut short


def test_a_field_is_exact_and_no_weight_is_lost() -> None:
    case = families("field", 16)[0](generator(1))
    found = run(case, sampler("smc", 100), 128)
    measures = Judge(case, 128, generator(2))(equal_weights(found, generator(5)), 8)
    assert found.ess() > 120
    # 256 directions of 128 draws: standard errors 0.004 of the ratio and the coverage, below 0.03 of the bias
    assert math.sqrt(max(measures["bias2"], 0)) < 0.06
    assert measures["std_ratio"] == pytest.approx(1, abs=0.03)
    assert measures["coverage90"] == pytest.approx(0.9, abs=0.02)
    assert found.diagnostics["warnings"] == []


def test_several_modes_and_many_data_shrink_the_weights_and_say_so() -> None:
    case = families("mixture", 80, 80)[0](generator(3, -1))
    method = sampler("smc", 100)
    found = run(case, method, 64)
    judge = Judge(case, 64, generator(2))

    def distance(posterior) -> float:
        return judge(equal_weights(posterior, generator(5)))["sw1"] / judge.floor[0]

    # Ratios of transition densities score 6, moment matching alone 2, with shrunk weights 1.5.
    assert distance(found) < 2.5
    assert any("weights were shrunk" in line for line in found.diagnostics["warnings"])
    again = run(case, SMC(100, twist="krylov"), 64)
    assert distance(again) > 1.3 * distance(found)


def test_an_interrupted_run_of_many_data_goes_on_to_the_same_bits(tmp_path, monkeypatch) -> None:
    from invdiff.engine.checkpoint import Checkpoint

    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))  # keep every state
    case = families("mixture", 80, 80)[0](generator(3, -1))
    whole = run(case, SMC(24), 32)

    class Stop(Exception):
        pass

    def interrupt(state, _):
        if state.step == 9:
            raise Stop

    options = {"device": "cpu", "progress": False, "checkpoint": tmp_path / "c"}
    with pytest.raises(Stop):
        sample(case.measurement, case.prior, SMC(24), 32, watch=interrupt, **options)
    resumed = sample(case.measurement, case.prior, SMC(24), 32, resume=True, **options)
    torch.testing.assert_close(resumed.draws.values, whole.draws.values, rtol=0, atol=0)
    torch.testing.assert_close(resumed.dataset.log_weight.values, whole.dataset.log_weight.values, rtol=0, atol=0)
    assert any("weights were shrunk" in line for line in whole.diagnostics["warnings"])
    assert resumed.diagnostics["warnings"] == whole.diagnostics["warnings"]  # the steps before count too


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_the_weight_between_modes_is_the_ratio_of_two_predictions_of_the_data(domain) -> None:
    # One real datum: its determinant needs no trace, and a small step the second order alone. Dense algebra beside it.
    dtype = torch.complex128 if domain == "complex" else torch.float64
    rng, n = generator(11), 400
    means = 3 * torch.randn(4, 3, dtype=dtype, generator=rng)
    prior = GaussianMixturePrior(torch.ones(4), means, torch.eye(3), domain)
    row = torch.randn(1, 3, dtype=dtype, generator=rng)
    operator = RealPart(row) if domain == "complex" else Matrix(row)
    measurement = Measurement(torch.tensor([0.4], dtype=torch.float64), operator, Gaussian(0.5))
    twist = ClosureTwist(prior, measurement.take([0] * n), Counts(), 1, iterations=2, inner=6)
    t, s = 2.0, 1.998
    twist.grid([2.1, t, s, 0.0])
    streams = Streams(0, range(n))
    x = means[torch.arange(n) % 4] + 2.1 * torch.randn(n, 3, dtype=dtype, generator=rng)
    before = twist(x, 2.1, None, streams)
    memory = before.memory.clone()
    memory[:, 4] = x  # not moved to where the data say, as the first step would be
    here = twist(x, t, memory, streams)
    after, _ = here.move(x, t, s, streams, 2.1)
    found = twist(after, s, here.memory, streams).log_twist

    def belief(x, sigma):
        level = torch.full((1,), sigma, dtype=torch.float64)
        size = components(x).shape[1]
        basis = torch.eye(size, dtype=torch.float64)
        basis = torch.view_as_complex(basis.reshape(size, 3, 2)) if x.is_complex() else basis
        columns = [components(prior.covariance(x, level)(e.expand_as(x))) for e in basis]
        return components(prior.denoise(x, level)), torch.stack(columns, 2)

    a = (components(row) if domain == "real" else torch.stack([row.real, -row.imag], -1).flatten(1))[0] / 0.5

    def log_density(mean, spread):
        m = 1 + (a @ spread) @ a
        return -0.5 * (0.4 / 0.5 - mean @ a) ** 2 / m - 0.5 * m.log()

    (d_t, v_t), (d_s, v_s) = belief(x, t), belief(after, s)
    precision = 1 / s**2 - 1 / t**2
    c = (s / t) ** 2
    z = components((after - c * x) / (1 - c))
    eye = torch.eye(v_t.shape[1], dtype=torch.float64)
    v_p = torch.linalg.solve(eye + precision * v_t, v_t)
    d_p = d_t + precision * (v_p @ (z - d_t)[..., None])[..., 0]
    exact = log_density(d_s, v_s) - log_density(d_p, v_p)
    # What is left is of second order in weights of about 0.05.
    assert float((found - exact).square().mean().sqrt()) < 0.08 * float(exact.square().mean().sqrt())
