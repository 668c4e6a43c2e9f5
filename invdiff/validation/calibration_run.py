"""A sampler's calibration: run it on many problems whose truths are known, and judge ranks and coverage."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.random import generator
from invdiff.samplers.base import Sampler
from invdiff.sampling import sample
from invdiff.validation.calibration import ranks as sbc_ranks
from invdiff.validation.calibration import tarp, uniformity
from invdiff.validation.case import Case
from invdiff.validation.importance import prior_dtype
from invdiff.validation.linear_gaussian import components
from invdiff.validation.weighted import equal_weights

__all__ = ["calibrate"]


def calibrate(method: Sampler, case: Case, problems: int, stream: int, seed: int, draws: int = 63) -> dict[str, float]:
    """Ranks and TARP over problems that share prior, operator and noise, each with a truth of its own.

    Ranks are those of up to 4 directions and of the squared norm; ``sbc_p`` is the least of their p-values times their
    number. `draws` of each problem are rounded up to whole units; `stream` numbers the problems' random numbers.

    Raises InputError: the prior cannot be drawn from.
    """
    rng = generator(seed, stream)
    op, count = case.measurement.operator, -(-draws // method.unit) * method.unit
    draw = getattr(case.prior, "sample", None)
    if draw is None:
        raise InputError(f"{type(case.prior).__name__} has no sample(n, rng): ranks need truths drawn from the prior")
    truth = draw(problems, rng).to(prior_dtype(case.measurement))
    y = case.measurement.noise.sample(op.forward(truth), rng)
    found = sample(
        Measurement(y, op, case.measurement.noise, batched=True),
        case.prior, method, count, seed=seed + 1, device="cpu", progress=False,
    )  # fmt: skip
    x = equal_weights(found, rng)
    numbers, known = _numbers(case, x.flatten(0, 1)), _numbers(case, truth)
    ranks = sbc_ranks(known, numbers.reshape(count, problems, -1))
    judged = [uniformity(ranks[:, k], count, rng) for k in range(ranks.shape[1])]
    balls = tarp(components(truth), components(x.flatten(0, 1)).reshape(count, problems, -1), rng)
    return {
        "sbc_p": min(1.0, len(judged) * min(u.p_value for u in judged)),
        "sbc_deviation": max(u.deviation for u in judged),
        "tarp_p": balls.p_value,
        "tarp_deviation": balls.deviation,
    }


def _numbers(case: Case, x: Tensor) -> Tensor:
    along = case.directions(x)[:, :4]
    return torch.cat([along, (components(x) ** 2).sum(1, keepdim=True)], 1)
