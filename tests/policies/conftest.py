"""A small k-space problem with a Gaussian prior whose covariance has no symmetry, so that no two columns tie."""

from typing import NamedTuple

import pytest
import torch

from invdiff.noise import Gaussian
from invdiff.operators.transforms import Fourier
from invdiff.policies import Candidates
from invdiff.priors.gaussian import GaussianPrior
from invdiff.random import generator


class Problem(NamedTuple):
    prior: GaussianPrior
    operator: Fourier
    noise: Gaussian
    candidates: Candidates


@pytest.fixture(scope="session")
def problem() -> Problem:
    size = 8
    weight = torch.tensor([0.1, 0.9, 0.3, 1.0, 0.2, 0.6, 0.15, 0.4]).double().sqrt()
    root = torch.randn(size**2, 24, generator=generator(0), dtype=torch.complex128) * weight.repeat(size)[:, None]
    root = Fourier((1, size, size)).adjoint((root * torch.linspace(1, 0.1, 24)).mT.reshape(24, 1, size, size))
    root = root.flatten(1).mT
    prior = GaussianPrior(torch.zeros(1, size, size, dtype=torch.complex64), root @ root.mH, "complex")
    operator = Fourier((1, size, size))
    return Problem(prior, operator, Gaussian(0.3), Candidates.along(operator, -1))
