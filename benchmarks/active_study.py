"""The study of `active.py`: equal budgets of k-space lines on real slices and phantoms, paired over slices."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import invdiff
from invdiff.acquisition.compare import LIFT
from invdiff.datasets.phantoms import ground_truth, smooth_phase
from invdiff.datasets.reading import read_volume
from invdiff.guidance import DDS
from invdiff.measurement import Measurement
from invdiff.metrics.image import nmse, ssim
from invdiff.noise import Gaussian
from invdiff.operators.fourier import fft2c, ifft2c
from invdiff.operators.transforms import Fourier
from invdiff.policies import (
    AOptimal,
    Candidates,
    Entropy,
    Equispaced,
    LogDet,
    LowFrequency,
    Policy,
    Random,
    Simulator,
    VariableDensity,
    greedy_design,
)
from invdiff.priors.base import Prior
from invdiff.random import generator
from invdiff.samplers.active import Active
from invdiff.samplers.guided import Guided
from invdiff.solvers import DDIM

SIZE, SIGMA = 64, 0.01  # pixels a side; noise per real component, bright tissue being 0.8
BRIGHT, QUANTILE = 0.8, 0.99
NFE, INNER = 12, 4  # evaluations of the draws, and between two decisions
TRUTH, NOISE, PHASE = 2**33, 2**33 + 1, 2**33 + 2  # streams of their own


# ---- truths ------------------------------------------------------------------------------------------------------
def slices(size: int, every: int) -> Iterator[tuple[str, Tensor]]:
    """Real T1-weighted slices ``(1, size, size)``: central k-space of the files' images, with a smooth phase each."""
    folder = Path(os.environ["INVDIFF_DATA"]) / "mri"
    coronal = torch.from_numpy(np.load(folder / "t1_coronal_slice.npy")).float()
    yield "coronal", _prepared(coronal, size, 0)
    volume = torch.from_numpy(read_volume(folder / "t1w_dicom").values)
    for i in range(0, len(volume), every):
        yield f"axial-{i:02d}", _prepared(volume[i], size, i + 1)


def phantoms(size: int, count: int) -> Iterator[tuple[str, Tensor]]:
    """Procedural heads that training has not seen."""
    for i in range(count):
        x = ground_truth(generator(i, TRUTH), 2 * size)[0]
        yield f"phantom-{i:02d}", _scaled(_crop(fft2c(x), size))


def _prepared(image: Tensor, size: int, number: int) -> Tensor:
    side = max(image.shape)
    square = torch.zeros(side, side)
    top, left = (side - image.shape[0]) // 2, (side - image.shape[1]) // 2
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    small = _crop(fft2c(square.to(torch.complex64)), size).abs()
    return _scaled(torch.polar(small, smooth_phase(generator(number, PHASE), (size, size))))


def _crop(k: Tensor, size: int) -> Tensor:
    top, left = (n // 2 - size // 2 for n in k.shape)
    return ifft2c(k[top : top + size, left : left + size])


def _scaled(x: Tensor) -> Tensor:
    return (x * (BRIGHT / torch.quantile(x.abs(), QUANTILE)))[None]


# ---- runs --------------------------------------------------------------------------------------------------------
def prior_draws(prior: Prior, size: int, count: int, seed: int = 1) -> Tensor:
    """Draws of the prior: what its sampler makes of one datum drowned in noise."""
    op = Fourier((1, size, size))
    nothing = Measurement(torch.zeros(op.range_shape, dtype=torch.complex64), op, Gaussian(1e4))
    drawn = Guided(DDS, DDIM(0.85), nfe=30, uses_vjp=False)
    units, prior.units = prior.units, None
    try:
        found = invdiff.sample(nothing, prior, drawn, draws=count, seed=seed, device="cpu", progress=False)
    finally:
        prior.units = units
    return torch.from_numpy(found.draws.values)


def policies(design: Policy) -> dict[str, tuple[Policy, dict[str, Any]]]:
    """By name: what is compared, and the options it is run with. Density at its better width of 0.1 and 0.2."""
    return {
        "random": (Random(), {}),
        "equispaced": (Equispaced(), {}),
        "density": (VariableDensity(0.1), {}),
        "lowfrequency": (LowFrequency(), {}),
        "fixed": (design, {}),
        "entropy": (Entropy(), {}),
        "logdet": (LogDet(), {}),
        "a-optimal": (AOptimal(), {}),
        "entropy, lift 4": (Entropy(), {"lift": 4.0}),
        "entropy-online": (Entropy(), {"mode": "online"}),
    }


def one(
    truth: Tensor, prior: Prior, policy: Policy, lines: int, number: int, draws: int, **options: Any
) -> dict[str, Any]:
    """One acquisition and its scores; noise and particles depend on `number` alone, so policies are paired."""
    size = truth.shape[-1]
    op, noise = Fourier((1, size, size)), Gaussian(SIGMA)
    candidates = Candidates.along(op, -1)
    instrument = Simulator(truth, op, noise, generator(number, NOISE))
    active = Active(
        policy=policy, budget=lines, initial=initial_lines(size, lines),
        **{"per_decision": max(1, lines // 8), "nfe": NFE, "inner": INNER, "lift": LIFT, **options},
    )  # fmt: skip
    done = active.run(instrument, candidates, prior, draws, seed=number, progress=False)
    mean = torch.from_numpy(done.posterior.mean().values)
    return {
        "nmse": nmse(truth, mean),
        "ssim": ssim(truth, mean),
        "entropy": done.entropy[-1],
        "expected_error": done.uncertainty[-1],
        "order": done.order,
        "nfe": done.nfe,
        "seconds": round(done.seconds, 2),
        "policy_seconds": done.posterior.diagnostics["policy_seconds"],
        "entropies": [round(h, 2) for h in done.entropy],
    }


def initial_lines(size: int, lines: int) -> tuple[int, ...]:
    """A quarter of the budget in the centre, from the middle outwards: all policies begin with it."""
    count = max(1, lines // 4)
    return tuple(size // 2 + (k + 1) // 2 * (-1) ** (k + 1) for k in range(count))


def fixed_design(draws: Tensor, lines: int) -> Policy:
    """The greedy fixed plan from draws of the prior."""
    op = Fourier(draws.shape[1:])
    return greedy_design(
        draws, op, Gaussian(SIGMA), Candidates.along(op, -1), lines, initial_lines(draws.shape[-1], lines)
    )


# ---- statistics --------------------------------------------------------------------------------------------------
def paired(rows: list[dict[str, Any]], active: str, other: str, score: str) -> dict[str, float]:
    """Mean of active minus other over the slices both have, with its 95 % interval (Student)."""
    from scipy.stats import t

    pairs = [(r[active][score], r[other][score]) for r in rows if active in r and other in r]
    gaps = np.array([a - b for a, b in pairs])
    half = float(t.ppf(0.975, len(gaps) - 1)) * gaps.std(ddof=1) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
    return {
        "mean": float(gaps.mean()),
        "low": float(gaps.mean()) - half,
        "high": float(gaps.mean()) + half,
        "n": len(gaps),
    }
