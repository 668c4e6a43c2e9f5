"""Judging by what was measured: leave out some data, predict them from the rest, compare.

No ground truth is needed. What is left out are whole positions of k-space, all coils together, because the coils of a
position share its signal; the calibration region stays, because the coil maps come from it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.operators.algebra import Restrict
from invdiff.operators.base import LinearOperator

__all__ = ["held_out", "nrmse", "predict", "score", "split"]


def split(measurement: Measurement, fraction: float, seed: int = 0) -> tuple[Measurement, Tensor]:
    """Leave out a random fraction of the measured positions.

    A position is an entry of the operator's mask as it is stored, so data that share one stay together: all coils of a
    point of k-space; all coils and readout points of a column (or row) where the mask selects whole columns (rows),
    which also keeps the operator's fast path for such masks. Of an MRI acquisition, positions in the fully sampled
    calibration region are never left out, and of several problems with masks of their own each is split on its own.
    An operator without a mask has one position per datum.

    Args:
        measurement: all data; its operator must be linear.
        fraction: of the positions (outside the calibration region), above 0 and below 1; their number is rounded,
            and is at least 1.
        seed: any integer; the same seed gives the same split.

    Returns:
        The measurement of what is left, and the boolean mask of what was left out, which broadcasts to
        ``(N, *range_shape)``; `held_out` picks these data.

    Raises:
        InputError: fraction is out of range, the operator is nonlinear, or fewer than two positions can be left out.
    """
    op = measurement.operator
    if not 0 < fraction < 1:
        raise InputError(f"the fraction to hold out is {fraction}; it expects a number above 0 and below 1")
    if not isinstance(op, LinearOperator):
        raise InputError(f"split got {op!r}; leaving out data needs a linear operator")
    mask = torch.ones(op.range_shape, dtype=torch.bool) if op.range_mask is None else op.range_mask.cpu()
    mask = mask.reshape(*(1,) * (len(op.range_shape) + 1 - mask.ndim), *mask.shape)  # (problems, *range)
    rng = torch.Generator().manual_seed(seed)
    held = torch.stack([_choose(m, c, fraction, rng) for m, c in zip(mask, _calibration(op, mask), strict=True)])
    kept = mask & ~held
    y = measurement.data * kept.to(measurement.y.device)
    train = Measurement(
        y if measurement.batched else y[0],
        _restricted(op, kept.to(measurement.y.device)),
        measurement.noise,
        measurement.coords,
        measurement.meta,
        measurement.batched,
    )
    return train, held.to(measurement.y.device)


def held_out(values: Tensor, held: Tensor) -> Tensor:
    """Pick the left-out entries of data or predictions ``(N, *range_shape)``: shape ``(N, count)``.

    Raises:
        ShapeError: the mask does not broadcast, or it selects differing numbers of data for the N.
    """
    try:
        held = held.to(values.device).expand_as(values)
    except RuntimeError as error:
        raise ShapeError(
            f"the held-out mask of shape {tuple(held.shape)} does not fit values of shape {tuple(values.shape)}; they"
            " expect (N, *range_shape)"
        ) from error
    counts = held.flatten(1).sum(1)
    if bool((counts != counts[0]).any()):
        raise ShapeError(f"the held-out mask keeps {counts.tolist()} data of the N; take one problem at a time")
    return values[held].reshape(values.shape[0], -1)


def nrmse(y: Tensor, prediction: Tensor) -> float:
    """Return ``|prediction - y| / |y|`` over held-out data of the same shape. Raises ShapeError, InputError."""
    if y.shape != prediction.shape:
        raise ShapeError(f"y has shape {tuple(y.shape)} its prediction {tuple(prediction.shape)}; expected the same")
    size = torch.linalg.vector_norm(y)
    if not size > 0:
        raise InputError("the held-out data are empty or zero; a relative error has no meaning")
    return float(torch.linalg.vector_norm(prediction - y) / size)


def score(y: Tensor, predictions: Tensor, sigma: float | Tensor) -> dict[str, float]:
    """Score posterior draws by their noise-free predictions ``A(x)`` of held-out data.

    - ``holdout_nrmse = |m - y| / |y|``, m the mean of the predictions.
    - ``holdout_calibration = mean|m - y|^2 / ((1 + 1/draws) mean var + noise)``: var is the variance of the draws
      (unbiased, real and imaginary part together) and noise is ``2 sigma^2`` on complex data, ``sigma^2`` on real.
      It is 1 in expectation for draws of the exact posterior: the denominator is the variance of a new datum about
      the mean of so many draws. Above 1 the draws are too certain, below too uncertain. With one draw no spread is
      known, and the key is absent.

    Args:
        y: held-out data of any shape (nothing else: see `held_out`).
        predictions: ``(draws, *y.shape)``.
        sigma: standard deviation of the noise per real component; a number or a tensor that broadcasts to y.

    Raises:
        ShapeError: the shapes do not fit. InputError: y is empty or zero, or sigma is not above 0.
    """
    if predictions.ndim != y.ndim + 1 or predictions.shape[1:] != y.shape or predictions.shape[0] == 0:
        raise ShapeError(
            f"predictions have shape {tuple(predictions.shape)}; they expect (draws, ...) with y's {tuple(y.shape)}"
        )
    variance = torch.as_tensor(sigma, device=y.device).square()
    if not bool((variance > 0).all()) or not bool(variance.isfinite().all()):
        raise InputError(f"sigma is {sigma}; it expects finite values above 0, in the unit of y")
    mean = predictions.mean(0)
    out = {"holdout_nrmse": nrmse(y, mean)}
    draws = predictions.shape[0]
    if draws > 1:
        noise = variance.expand(y.shape).mean() * (2 if y.is_complex() else 1)
        spread = (predictions - mean).abs().square().sum(0).mean() / (draws - 1)
        error = (y - mean).abs().square().mean()
        out["holdout_calibration"] = float(error / ((1 + 1 / draws) * spread + noise))
    return out


def predict(operator: LinearOperator, draws: Tensor, held: Tensor) -> Tensor:
    """Noise-free predictions of the held-out data by draws ``(draws, *domain_shape)``, one at a time."""
    return torch.cat([held_out(operator.forward(x[None]), held) for x in draws])


def _choose(mask: Tensor, keep: Tensor, fraction: float, rng: torch.Generator) -> Tensor:
    """Mark a random fraction of the true entries of `mask` outside `keep`."""
    candidates = (mask & ~keep).flatten().nonzero()[:, 0]
    if candidates.numel() < 2:
        raise InputError(
            f"only {candidates.numel()} positions are measured outside the calibration region; holding some out needs"
            " at least 2"
        )
    count = min(max(1, round(fraction * candidates.numel())), candidates.numel() - 1)
    held = torch.zeros(mask.numel(), dtype=torch.bool)
    held[candidates[torch.randperm(candidates.numel(), generator=rng)[:count]]] = True
    return held.reshape(mask.shape)


def _calibration(op: LinearOperator, mask: Tensor) -> Tensor:
    """Positions in the calibration region of an MRI operator, none for others; the shape of `mask`."""
    from invdiff.operators.mri.coils import calibration_region
    from invdiff.operators.mri.sense import MRI

    keep = torch.zeros_like(mask)
    if isinstance(op, MRI):
        for problem in range(mask.shape[0]):
            full = torch.zeros(op.range_shape[-2:], dtype=torch.bool)
            full[calibration_region(mask[problem, 0].expand_as(full))] = True
            # A whole column (row) counts as calibration where any of it is.
            for axis in (-2, -1):
                if mask.shape[axis] == 1:
                    full = full.any(axis, keepdim=True)
            keep[problem, 0] = full
    return keep


def _restricted(op: LinearOperator, kept: Tensor) -> LinearOperator:
    from invdiff.operators.mri.sense import MRI

    return MRI(op.coil_maps, kept[:, 0]) if isinstance(op, MRI) else Restrict(op, kept[0])
