"""Choose a baseline's regularisation as favourably as the judge allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement

__all__ = ["Tuned", "tune"]

_LIMITS = (1e-8, 1e8)  # beyond these the penalty is absent or all there is


@dataclass(frozen=True)
class Tuned:
    """The best of what was tried.

    Attributes:
        x: reconstruction ``(1, *domain_shape)``.
        strength: its regularisation. score: what it scored. tried: score of every strength, in order of strength.
        interior: whether a lower and a higher strength were tried and scored worse; false only where the search ended
            at the limits 1e-8 or 1e8, or at the ends of strengths that were given.
    """

    x: Tensor
    strength: float
    score: float
    tried: dict[float, float]
    interior: bool


def tune(
    method: Callable[[Measurement, float], Tensor],
    measurement: Measurement,
    score: Callable[[Tensor], float],
    strengths: Sequence[float] | None = None,
    *,
    refinements: int = 2,
) -> Tuned:
    """Reconstruct with several strengths and keep the one of lowest score.

    With a known truth, let score be minus the PSNR of the magnitude: no choice is more generous to the baseline. With
    held-out data, let it be their NRMSE; chosen on the data that also judge it, this is again generous.

    Args:
        method: ``(measurement, strength) -> x``, such as `invdiff.baselines.tv.tv`.
        measurement: what to reconstruct from.
        score: ``x -> number``, lower is better; NaN counts as worst.
        strengths: exactly these are tried. By default 1, 10 and 100; decades are added at either end while the best is
            at that end, and then the neighbours of the best at half the spacing, `refinements` times.
        refinements: number of halvings; 2 leaves a factor 10^(1/4) between neighbours.

    Returns:
        The best, and what was tried.

    Raises:
        InputError: strengths is empty or holds a value that is not above 0.
    """
    if strengths is not None and not all(0 < s < math.inf for s in strengths):
        raise InputError(f"strengths are {list(strengths)}; expected finite numbers above 0")
    tried: dict[float, float] = {}

    def better(best: Tuned | None, candidates: Sequence[float]) -> Tuned:
        for strength in candidates:
            x = method(measurement, strength)
            value = score(x)
            tried[strength] = math.inf if math.isnan(value) else value
            if best is None or tried[strength] < best.score:
                best = Tuned(x, strength, tried[strength], {}, False)
        if best is None:
            raise InputError("strengths is empty; expected one or more finite numbers above 0")
        return best

    best = better(None, [float(s) for s in strengths] if strengths is not None else [1.0, 10.0, 100.0])
    if strengths is None:
        while best.strength in (min(tried), max(tried)):
            wider = best.strength / 10 if best.strength == min(tried) else best.strength * 10
            if not _LIMITS[0] <= wider <= _LIMITS[1]:
                break
            best = better(best, [wider])
        for halving in range(refinements):
            ratio = 10 ** (0.5 ** (halving + 1))
            best = better(best, [best.strength / ratio, best.strength * ratio])
    interior = min(tried) < best.strength < max(tried)
    return replace(best, tried=dict(sorted(tried.items())), interior=interior)
