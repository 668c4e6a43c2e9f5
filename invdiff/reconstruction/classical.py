"""The classical methods that stand beside the draws, each at a strength that was chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.baselines.cg_sense import cg_sense
from invdiff.baselines.cgls import cgls
from invdiff.baselines.fbp import filtered_backprojection
from invdiff.baselines.tune import Tuned, tune
from invdiff.baselines.tv import tv
from invdiff.baselines.wavelet import wavelet
from invdiff.baselines.zero_filled import zero_filled
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.metrics.image import psnr
from invdiff.operators.ct.tomography import Tomography
from invdiff.reconstruction.held_out import HeldOut

__all__ = ["ALL", "CT", "MRI", "Classical", "beside", "methods"]

_TUNING = 0.1  # of the positions choose the strength of a baseline where nobody else judges


@dataclass(frozen=True)
class Classical:
    """A classical method.

    Attributes:
        key: its name in figures about held-out data. title: in pictures and tables.
        run: ``(measurement, strength) -> x``.
        strengths: to choose among; None for decades (`invdiff.baselines.tune`), empty where there is none to choose.
        usual: the strength where nothing chooses.
        quick: whether it is worth making unasked.
    """

    key: str
    title: str
    run: Callable[[Measurement, float], Tensor]
    strengths: Sequence[float] | None = None
    usual: float = 1.0
    quick: bool = False


def _zero_filled(measurement: Measurement, strength: float) -> Tensor:
    del strength
    return zero_filled(measurement)


_HANN = (1.0, 0.8, 0.6, 0.4, 0.25)
_STEPS = (3, 5, 8, 12, 20, 32, 50)
MRI = {
    "zero_filled": Classical("zero_filled", "zero-filled", _zero_filled, (), quick=True),
    "cg": Classical("cg_sense", "CG-SENSE", cg_sense, quick=True),
    "tv": Classical("tv_sense", "TV-SENSE", tv),
    "wavelet": Classical("wavelet_sense", "wavelet-SENSE", wavelet),
}
_FBP = Classical("fbp", "FBP", filtered_backprojection, _HANN, quick=True)
_FDK = Classical("fdk", "FDK", filtered_backprojection, _HANN, quick=True)
CT = {
    "fbp": _FBP,
    "fdk": _FDK,
    "cgls": Classical("cgls", "CGLS", cgls, _STEPS, usual=20.0, quick=True),
    "tv": Classical("tv", "TV", tv, usual=10.0),
}
_LINEAR = {"cg": Classical("cg", "CG", cg_sense, quick=True), "tv": Classical("tv", "TV", tv)}
ALL = {**CT, **MRI}


def methods(measurement: Measurement) -> dict[str, Classical]:
    """The classical methods for an operator, by the names that ``--method`` takes."""
    operator = measurement.operator
    if operator.domain == "complex":
        return MRI
    inner = getattr(operator, "op", operator)  # single rays of a tomograph are left out by an operator around it
    if isinstance(inner, Tomography):
        whole = {k: v for k, v in CT.items() if v.run is not filtered_backprojection}
        if inner is not operator:
            return whole
        flat = inner.geometry.planar  # of a volume under parallel beams FDK is filtered backprojection
        return {("fbp" if flat else "fdk"): _FBP if flat else _FDK, **whole}
    return _LINEAR


def beside(
    measurement: Measurement,
    asked: str,
    held: HeldOut | None,
    truth: Tensor | None,
    report: Callable[[str], None],
    alone: bool = False,
) -> dict[str, Tuned]:
    """Reconstruct with all classical methods where something judges them, else with the quick ones and the one asked.

    The judge chooses the strength: the truth (the PSNR of the middle problem), the data held out, or, of the method
    asked for alone, a tenth of the data left out for this only. No real case could choose better than by the truth.
    With `alone` only the one asked for is made.
    """
    done = {}
    for name, method in methods(measurement).items():
        if alone and name != asked:
            continue
        judged = truth is not None or held is not None
        volume = len(measurement.operator.domain_shape) == 4  # where choosing a strength takes long
        if (volume or not judged) and name != asked and not method.quick:
            continue
        if method.strengths is not None and len(method.strengths) == 0:
            done[name] = Tuned(_each(method, measurement, 0.0), 0.0, 0.0, {}, True)
        elif truth is not None:
            report(f"{method.title}: choosing the strength that comes nearest to the reference")
            middle = measurement.n_problems // 2
            best = tune(
                method.run,
                measurement.take([middle]),
                lambda x, true=truth[middle]: -psnr(true, x[0]),  # type: ignore[misc]
                method.strengths,
            )
            done[name] = _at(method, measurement, best)
        elif held is not None:
            report(f"{method.title}: choosing the strength that predicts the held-out data best")
            done[name] = tune(method.run, measurement, held.nrmse, method.strengths)
        elif name == asked and (judge := _judge(measurement, name)) is not None:
            report(f"{method.title}: choosing the strength that predicts {_TUNING:.0%} of the data best")
            done[name] = _at(method, measurement, tune(method.run, judge.train, judge.nrmse, method.strengths))
        else:
            done[name] = Tuned(_each(method, measurement, method.usual), method.usual, 0.0, {}, True)
    return done


def _judge(measurement: Measurement, name: str) -> HeldOut | None:
    """A tenth of the data, if there are enough outside the calibration region and the method works without them."""
    try:
        judge = HeldOut(measurement, _TUNING)
    except InputError:
        return None
    return judge if name in methods(judge.train) else None


def _at(method: Classical, measurement: Measurement, best: Tuned) -> Tuned:
    x = _each(method, measurement, best.strength)
    return Tuned(x, best.strength, best.score, best.tried, best.interior)


def _each(method: Classical, measurement: Measurement, strength: float) -> Tensor:
    """One problem after the other: a stack of slices need not fit memory many times over."""
    if not measurement.batched:
        return method.run(measurement, strength)
    return torch.cat([method.run(measurement.take([p]), strength) for p in range(measurement.n_problems)])
