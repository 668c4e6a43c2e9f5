"""Scores of every slice against a known truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from invdiff.metrics.image import psnr, ssim
from invdiff.posterior import Posterior

__all__ = ["rows"]

_OBJECT = 0.05  # of the largest magnitude: darker pixels are background
_WINDOW = 7  # rows and columns that the structural similarity needs


def rows(
    truth: Tensor,
    images: Mapping[str, Tensor],
    slices: Sequence[int] | None = None,
    posterior: Posterior | None = None,
    name: str = "",
) -> list[dict[str, Any]]:
    """One row a method and slice, and one with slice "mean": ``method, slice, psnr, ssim, coverage90``.

    The range of PSNR and SSIM is the largest magnitude of the truth in all slices. `coverage90` is the share of the
    object's pixels (above 5 % of that) whose true value, or magnitude of complex ones, lies in the central 90 %
    interval of the draws; None for methods without draws.

    Args:
        truth: ``(problems, 1, [D,] H, W)``.
        images: the same, by method.
        slices: their numbers, one a problem, or a slice of the volume; from 0 if not given.
        posterior: its mean is scored under `name`.
    """
    true = _slices(truth)
    numbers = slices or range(len(true))
    span = float(true.abs().max())
    ends = None
    images = dict(images)
    if posterior is not None:
        import torch

        images = {name: torch.from_numpy(posterior.mean().values), **images}
        if posterior.draws.sizes["draw"] > 1:
            low, high = posterior.interval(0.9).values
            ends = low.reshape(true.shape), high.reshape(true.shape)
    value = (true.abs() if true.is_complex() else true).numpy()
    inside = true.abs().numpy() > _OBJECT * span
    out: list[dict[str, Any]] = []
    for method, x in images.items():
        each: list[dict[str, Any]] = []
        for k, (a, b) in enumerate(zip(true, _slices(x).cpu(), strict=True)):
            covered = None
            if ends is not None and method == name and inside[k].any():
                covered = float(((value[k] >= ends[0][k]) & (value[k] <= ends[1][k]))[inside[k]].mean())
            empty = not bool((a != 0).any())
            small = min(a.shape) < _WINDOW
            each.append(
                {
                    "method": method,
                    "slice": int(numbers[k]),
                    "psnr": None if empty else psnr(a, b, span),
                    "ssim": None if empty or small else ssim(a, b, span),
                    "coverage90": covered,
                }
            )
        mean = {key: _mean([row[key] for row in each]) for key in ("psnr", "ssim", "coverage90")}
        out += [*each, {"method": method, "slice": "mean", **mean}]
    return out


def _slices(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[-2:])


def _mean(values: Sequence[Any]) -> float | None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return float(np.mean(known)) if known else None
