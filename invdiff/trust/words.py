"""Warnings in plain words, from figures that every run has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.measurement import Measurement

__all__ = ["DataFit", "data_fit", "held_out_warning", "warnings_of"]

MATERIAL = 1.2  # a ratio that is nearer to 1 than this changes no conclusion, however significant it is
ERRORS = 4.0  # standard errors before a ratio counts as different from 1
ALIKE = 1e-2  # deviation of the draws, in units of the prior's scale or of the noise, below which they count as one
BEYOND = 30.0  # deviation of all values over the prior's that no image of the prior has, even about an uneven mean
SHRUNK = 0.1  # share of steps below which it is chance


@dataclass(frozen=True)
class DataFit:
    """How the draws stand to the data, problems averaged.

    Args:
        chi2: mean over draws of ``|(y - A x)/sigma|^2``, summed over all real data of a problem.
        count: number of real data of all problems.
        ratio: chi2 over the number of real data; its expectation is 1 for exact draws.
        spread: deviation of ``A x`` over the draws in units of the noise, root mean square over the data.
    """

    chi2: float
    count: int
    ratio: float
    spread: float


def data_fit(measurement: Measurement, x: Tensor) -> DataFit:
    """Compare draws ``(draws, problems, *event)`` with the data, eight draws at a time."""
    draws, problems = x.shape[:2]
    chi2 = spread = 0.0
    with torch.inference_mode():
        for p in range(problems):
            one = measurement.take([p])
            mean, square = torch.zeros(()), 0.0
            for i in range(0, draws, 8):
                part = measurement.take([p] * len(x[i : i + 8, p])).residual(x[i : i + 8, p].to(one.y.device))
                for k, r in enumerate(one.noise.whiten(part)):
                    r = r.cpu().to(torch.complex128 if r.is_complex() else torch.float64)
                    chi2 += float((r.abs() ** 2).sum())
                    before = r - mean
                    mean = mean + before / (i + k + 1)
                    square += float((before * (r - mean).conj()).real.sum())
            spread += square / max(1, draws - 1) / one.count
    chi2 /= draws * problems
    return DataFit(chi2, measurement.count * problems, chi2 / measurement.count, math.sqrt(spread / problems))


def warnings_of(fit: DataFit, x: Tensor, scale: float, ess: float | None = None, shrunk: float = 0.0) -> list[str]:
    """What a user should know about draws x ``(draws, problems, *event)``, one sentence each; empty where all is well.

    Args:
        fit: from `data_fit`.
        x: the draws.
        scale: the prior's standard deviation in the unit of x.
        ess: effective number of weighted draws.
        shrunk: share of the steps in which a population's weights had to be shrunk.
    """
    found = []
    error = ERRORS * math.sqrt(2 / fit.count)
    if fit.ratio > max(MATERIAL, 1 + error):
        found.append(f"the draws miss the data: chi2 is {fit.ratio:.3g} times its expectation")
    if fit.ratio < min(1 / MATERIAL, 1 - error):
        found.append(f"the draws follow the noise: chi2 is {fit.ratio:.2g} times its expectation")
    size = math.sqrt(float((x - x.mean()).abs().square().mean()) / (2 if x.is_complex() else 1)) / scale
    if size > BEYOND:
        found.append(f"the draws vary {size:.2g} times as much as the prior's: noise was amplified, not removed")
    if len(x) > 1:
        spread = float((x - x.mean(0)).abs().square().sum() / ((len(x) - 1) * x[0].numel()))
        spread = math.sqrt(spread / (2 if x.is_complex() else 1)) / scale
        # Data that fix the image leave draws that differ by the noise; data that say little, by the prior.
        if spread < ALIKE and fit.spread < ALIKE:
            found.append(
                f"the draws are nearly identical: they differ by {spread:.1g} of the prior's deviation and"
                f" {fit.spread:.1g} of the noise, so their spread says nothing about the uncertainty"
            )
    if ess is not None and ess < max(2.0, 0.1 * len(x)) and len(x) > 2:
        found.append(f"few draws carry the weight: {ess:.2g} effective draws of {len(x)}")
    if shrunk > SHRUNK:
        found.append(
            f"in {shrunk:.0%} of the steps the particles' weights were shrunk to keep them alive: with so many data the"
            " draws are between those of moment matching (mmps) and the posterior"
        )
    return found


def held_out_warning(scores: dict[str, float], count: int) -> Sequence[str]:
    """One sentence if data that were left out are predicted worse than the draws admit, none otherwise.

    Args:
        scores: with ``holdout_calibration``, mean squared error over what spread and noise explain (1 in expectation).
        count: number of real data held out.
    """
    ratio = scores.get("holdout_calibration", 1.0)
    if ratio > max(MATERIAL, 1 + ERRORS * math.sqrt(2 / count)):
        return [f"the held-out error is larger than the draws admit: {ratio:.3g} times what their spread explains"]
    return []
