"""Posterior samplers of azula and deepinv on a vector problem: ``(prior, measurement, n, nfe, rng seed) -> draws``.

Both see the same denoiser. azula gets it in its own variables; deepinv, whose methods are made for images in [0, 1],
gets x moved and scaled to that range, data and noise with it, so that its defaults mean what they are meant to.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["azula_methods", "deepinv_methods"]

Method = Callable[[Prior, Measurement, int, int], Tensor]


def azula_methods() -> dict[str, Method]:
    """azula's samplers by the names ours have, options after a space; none where it is not installed."""
    if importlib.util.find_spec("azula") is None:
        return {}
    from azula.denoise import Denoiser, DiracPosterior
    from azula.guidance import DiffPIRDenoiser, DPSSampler, MMPSDenoiser, PGDMSampler, TDSSampler, TMPDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import VESchedule
    from azula.sample import DDPMSampler

    class Exact(Denoiser):
        def __init__(self, prior: Prior) -> None:
            super().__init__()
            self.prior, self.schedule = prior, VESchedule(prior.sigma_min, prior.sigma_max)

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = self.schedule(t)
            return DiracPosterior(self.prior.denoise(x_t / alpha, (sigma / alpha).reshape(-1)))

    def run(make: Callable[..., Any]) -> Method:
        def method(prior: Prior, measurement: Measurement, n: int, nfe: int) -> Tensor:
            matrix, sigma = measurement.operator.matrix, measurement.noise.sigma  # type: ignore[attr-defined]
            sampler = make(Exact(prior), measurement.y, lambda x: x @ matrix.mT, matrix, sigma, prior, nfe)
            return sampler(sampler.init((n, matrix.shape[1]), var=prior.scale**2))

        return method

    def conditional(kind: Any, **options: Any) -> Callable[..., Any]:
        def make(denoiser: Any, y: Tensor, a: Any, matrix: Tensor, sigma: float, prior: Prior, nfe: int) -> Any:
            noise = (
                {"cov_y": IsotropicCovariance(torch.tensor(sigma**2))} if kind is MMPSDenoiser else {"var_y": sigma**2}
            )
            return DDPMSampler(kind(denoiser, y, a, **noise, **options), steps=nfe, silent=True)

        return make

    def dps(denoiser: Any, y: Tensor, a: Any, matrix: Tensor, sigma: float, prior: Prior, nfe: int) -> Any:
        return DPSSampler(denoiser, y, a, steps=nfe, silent=True)

    def pgdm(denoiser: Any, y: Tensor, a: Any, matrix: Tensor, sigma: float, prior: Prior, nfe: int) -> Any:
        inverse = torch.linalg.pinv(matrix)
        return PGDMSampler(denoiser, y, a, lambda v: v @ inverse.mT, eta=1.0, steps=nfe, silent=True)

    def tds(denoiser: Any, y: Tensor, a: Any, matrix: Tensor, sigma: float, prior: Prior, nfe: int) -> Any:
        gram = matrix @ matrix.mT

        def twist(x: Tensor, level: Tensor) -> Tensor:  # pseudo-inverse guidance's Gaussian, in the data's unit
            spread = prior.scale**2 * level**2 / (prior.scale**2 + level**2)
            covariance = spread * gram + sigma**2 * torch.eye(len(y))
            return torch.distributions.MultivariateNormal(a(x), covariance).log_prob(y)[:, None]

        return TDSSampler(denoiser=denoiser, twist=twist, steps=nfe, silent=True)

    return {
        "dps": run(dps),
        "pigdm": run(pgdm),
        "mmps gmres1": run(conditional(MMPSDenoiser)),
        "mmps gmres4": run(conditional(MMPSDenoiser, iterations=4)),
        "tmpd": run(conditional(TMPDenoiser)),
        "diffpir": run(conditional(DiffPIRDenoiser)),
        "smc pigdm-twist": run(tds),
    }


def deepinv_methods() -> dict[str, Method]:
    """deepinv's samplers, likewise. deepinv needs a torchvision that matches torch."""
    if importlib.util.find_spec("deepinv") is None:
        return {}
    import deepinv
    from deepinv.optim import L2
    from deepinv.sampling import DDRM, DPS, DiffPIR, PosteriorDiffusion, VarianceExplodingDiffusion
    from deepinv.sampling.noisy_datafidelity import DPSDataFidelity, MomentMatchingDataFidelity, PiGDMDataFidelity
    from deepinv.sampling.sde_solver import DDPMSolver

    class Exact(deepinv.models.Denoiser):
        def __init__(self, prior: Prior, low: float, width: float) -> None:
            super().__init__()
            self.prior, self.low, self.width = prior, low, width

        def forward(self, x: Tensor, sigma: Any, *_: Any, **__: Any) -> Tensor:
            level = torch.as_tensor(sigma, dtype=torch.float32).reshape(-1) * self.width
            out = self.prior.denoise(x.flatten(1).float() * self.width + self.low, level.expand(len(x)))
            return ((out - self.low) / self.width).reshape(x.shape).to(x.dtype)

    def problem(prior: Prior, measurement: Measurement) -> tuple[Any, Any, Tensor, float, float, float]:
        low, width = -5 * prior.scale / 2, 5 * prior.scale
        matrix, sigma = measurement.operator.matrix, measurement.noise.sigma / width  # type: ignore[attr-defined]
        y = (measurement.y - matrix.sum(1) * low) / width
        u, s, vh = torch.linalg.svd(matrix)
        size, data = matrix.shape[1], matrix.shape[0]

        def pad(v: Tensor) -> Tensor:
            return torch.nn.functional.pad(v.flatten(1) @ u, (0, size - data)).reshape(-1, 1, 1, size)

        physics = deepinv.physics.DecomposablePhysics(
            U=lambda v: (v.flatten(1)[:, :data] @ u.mT).reshape(-1, 1, 1, data),
            U_adjoint=pad,
            V=lambda v: (v.flatten(1) @ vh).reshape(-1, 1, 1, size),
            V_adjoint=lambda v: (v.flatten(1) @ vh.mT).reshape(-1, 1, 1, size),
            mask=torch.nn.functional.pad(s, (0, size - data)).reshape(1, 1, 1, size),
            img_size=(1, 1, size),
            noise_model=deepinv.physics.GaussianNoise(sigma),
        )
        return Exact(prior, low, width), physics, y, sigma, low, width

    def run(make: Callable[..., Any]) -> Method:
        def method(prior: Prior, measurement: Measurement, n: int, nfe: int) -> Tensor:
            denoiser, physics, y, sigma, low, width = problem(prior, measurement)
            y = y.expand(n, -1).reshape(n, 1, 1, -1)
            x = make(denoiser, physics, sigma, prior.sigma_min / width, prior.sigma_max / width, nfe)(y, physics)
            return (x.flatten(1) * width + low).float().detach()

        return method

    def diffusion(fidelity: Callable[[], Any]) -> Callable[..., Any]:
        def make(denoiser: Any, physics: Any, sigma: float, least: float, most: float, nfe: int) -> Any:
            # The state runs in [-1, 1], twice the range of the denoiser; the last evaluation removes the last noise.
            sde = VarianceExplodingDiffusion(sigma_min=2 * least, sigma_max=2 * most, alpha=1.0)
            solver = DDPMSolver(timesteps=torch.linspace(1, 0, nfe, dtype=torch.float64))
            return PosteriorDiffusion(fidelity(), denoiser, sde, solver)

        return make

    return {
        "dps": run(lambda denoiser, p, s, a, b, nfe: DPS(denoiser, num_steps=nfe + 1)),
        "dps annealed": run(diffusion(lambda: DPSDataFidelity(guidance="annealed"))),
        "pigdm": run(diffusion(lambda: PiGDMDataFidelity())),
        "mmps": run(diffusion(lambda: MomentMatchingDataFidelity())),
        "diffpir": run(lambda denoiser, p, s, a, b, nfe: DiffPIR(denoiser, L2(), sigma=s, max_iter=nfe)),
        "diffpir lambda=2 zeta=1": run(
            lambda denoiser, p, s, a, b, nfe: DiffPIR(denoiser, L2(), s, max_iter=nfe, zeta=1.0, lambda_=2.0)
        ),
        "ddrm": run(lambda denoiser, p, s, a, b, nfe: DDRM(denoiser, torch.linspace(1, 0, nfe).tolist())),
        "ddrm published noise": run(
            lambda denoiser, p, s, a, b, nfe: _louder(DDRM(denoiser, torch.linspace(1, 0, nfe).tolist()))
        ),
    }


def _louder(sampler: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The sampler with its noise times sqrt 2: deepinv 0.5 divides DDRM's by that, eq. 7-8 of the paper do not."""

    def call(y: Tensor, physics: Any) -> Tensor:
        plain = torch.randn_like
        with patch("torch.randn_like", lambda x: math.sqrt(2) * plain(x)):
            return sampler(y, physics)

    return call
