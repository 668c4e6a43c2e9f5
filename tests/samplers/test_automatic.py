"""What names stand for: "auto" follows from the measurement alone, published methods run on their papers' levels."""

import pytest
import torch

import invdiff
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Transmission
from invdiff.operators.imaging.phase_retrieval import PhaseRetrieval
from invdiff.operators.matrix import Matrix
from invdiff.priors.base import CallablePrior
from invdiff.random import generator
from invdiff.samplers.named import automatic, sampler
from invdiff.schedules import ddpm


def measured(data: int) -> Measurement:
    matrix = torch.randn(data, 20, generator=generator(data))
    return Measurement(torch.ones(data), Matrix(matrix), Gaussian(0.5))


@pytest.mark.parametrize(("data", "solver", "name"), [(16, None, "smc"), (17, None, "mmps"), (16, "heun", "mmps")])
def test_linear(data: int, solver: str | None, name: str) -> None:
    assert automatic(measured(data), solver) == name
    assert sampler("auto", solver=solver, measurement=measured(data)).name == name


@pytest.mark.parametrize(("data", "name"), [(16, "smc"), (17, "daps")])
def test_nonlinear(data: int, name: str) -> None:
    operator = PhaseRetrieval(Matrix(torch.randn(data, 20, generator=generator(data))))
    assert automatic(Measurement(torch.ones(data), operator, Gaussian(0.5))) == name


def test_counts_are_counts() -> None:
    y = torch.ones(4)
    assert automatic(Measurement(y, Matrix(torch.eye(4)), Transmission(1e4))) == "daps"


def test_the_public_door_follows_it() -> None:
    posterior = invdiff.sample(measured(2), lambda x, sigma: x / (1 + sigma**2), draws=8, nfe=20, progress=False)
    assert posterior.dataset.attrs["sampler"] == "smc"


@pytest.mark.parametrize("name", ["tmpd", "diffpir", "ddrm", "dps"])
def test_published_methods_run_on_the_levels_of_their_papers(name: str) -> None:
    seen = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(float(sigma))
        return x / (1 + sigma.reshape(-1, 1) ** 2)

    prior = CallablePrior(denoise, "real", 0.01, 50.0, 1.0)
    measurement = Measurement(torch.zeros(2), Matrix(torch.eye(4)[:2]), Gaussian(0.5))
    invdiff.sample(measurement, prior, name, 2, nfe=8, progress=False)
    power = 1.0 if name in ("tmpd", "dps") else 0.5  # the others' are denser at small levels
    assert seen == pytest.approx(ddpm(0.01, 50.0, 8, power)[: len(seen)], rel=1e-4) and len(seen) >= 7
