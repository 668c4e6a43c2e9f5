"""Importance weights of guided draws: right whatever guided them."""

import math
from typing import Any

import pytest
import torch

from invdiff.engine.checkpoint import Checkpoint
from invdiff.errors import InputError
from invdiff.guidance import DDS, MMPS
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import GaussianPrior
from invdiff.random import generator
from invdiff.samplers.corrected import Corrected
from invdiff.sampling import sample
from invdiff.validation.linear_gaussian import posterior
from invdiff.validation.mixture import lattice_problem
from invdiff.validation.mixture import posterior as mixture_posterior
from invdiff.validation.suites import families


class Half(Guidance):
    """Half of what moment matching adds: wrong on purpose."""

    def __init__(self, prior, measurement):
        super().__init__(prior, measurement)
        self.full = MMPS(prior, measurement)

    def __call__(self, x, sigma):
        self.full.counts = self.counts
        return 0.5 * self.prior_mean(x, sigma) + 0.5 * self.full(x, sigma)

    def prior_mean(self, x, sigma):
        return self.denoise(x, sigma)


@pytest.mark.parametrize("guidance", [MMPS, Half, DDS])
def test_weights_repair_a_wrong_guidance(guidance) -> None:
    rng = generator(0)
    prior = GaussianPrior(torch.tensor([0.5, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 0.8]]))
    measurement = Measurement(torch.tensor([1.0]), Matrix(torch.randn(1, 2, generator=rng)), Gaussian(0.7))
    exact = posterior(prior, measurement)
    method = Corrected(guidance, 60, uses_vjp=guidance is not DDS)
    found = sample(measurement, prior, method, 1500, device="cpu", progress=False)
    assert found.ess() > 150
    few = math.sqrt(found.ess())
    error = (torch.from_numpy(found.mean().values).double() - exact.mean) / exact.std
    # five standard errors, and 0.03 for the 60 steps
    assert float(error.abs().max()) < 5 / few + 0.03
    ratio = torch.from_numpy(found.std().values).double() / exact.std
    assert float((ratio - 1).abs().max()) < 5 / few + 0.03
    assert found.diagnostics["log_evidence"] == pytest.approx(exact.log_evidence, abs=5 / few)


def test_a_mixture() -> None:
    prior, measurement = lattice_problem(8, 2, generator(3002))
    exact = mixture_posterior(prior, measurement)
    found = sample(measurement, prior, "mmps-weighted", 512, device="cpu", progress=False)
    truth = exact.sample(4000, generator(1)).mean(0)
    plain = torch.from_numpy(found.draws.values).double().mean(0)
    weighted = torch.from_numpy(found.mean().values).double()
    assert float((weighted - truth).abs().max()) < 0.5 * float((plain - truth).abs().max())
    assert found.diagnostics["log_evidence"] == pytest.approx(exact.log_evidence, abs=0.3)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))  # keep every state
    case = families("mixture", 80, 20)[0](generator(3, -1))  # so many data that MMPS starts from its last solution
    options: dict[str, Any] = {"device": "cpu", "progress": False, "draws": 2}

    class Stop(Exception):
        pass

    def interrupt(state, _):
        if state.step == 9:
            raise Stop

    whole = sample(case.measurement, case.prior, Corrected(MMPS, 12), **options)
    options["checkpoint"] = tmp_path / "c"
    with pytest.raises(Stop):
        sample(case.measurement, case.prior, Corrected(MMPS, 12), watch=interrupt, **options)
    resumed = sample(case.measurement, case.prior, Corrected(MMPS, 12), resume=True, **options)
    torch.testing.assert_close(resumed.draws.values, whole.draws.values, rtol=0, atol=0)
    torch.testing.assert_close(resumed.dataset.log_weight.values, whole.dataset.log_weight.values, rtol=0, atol=0)


def test_no_steps() -> None:
    with pytest.raises(InputError, match="nfe"):
        Corrected(MMPS, 0)
