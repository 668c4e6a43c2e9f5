"""The noise level that the draws themselves show: what data and prior together leave unexplained.

An estimate from the edge of k-space, or from a least-squares fit, is of the receiver's noise. What a reconstruction
leaves is more: errors of the coil maps, motion, detail that the prior does not know. Draws at too low a level explain
part of that and are too certain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from invdiff.errors import InputError
from invdiff.guidance import MMPS
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.priors.base import Prior
from invdiff.samplers.guided import Guided
from invdiff.sampling import DEFAULT_MEMORY, sample
from invdiff.solvers import DPMpp2M

__all__ = ["noise_of_draws"]

ROUNDS, DRAWS, NFE, ITERATIONS = 2, 2, 12, 3


def noise_of_draws(
    measurement: Measurement,
    prior: Prior,
    *,
    seed: int = 0,
    memory: int = DEFAULT_MEMORY,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
) -> Measurement:
    """Return the measurement with ``sigma^2 <- E[|y - A x|^2 | y] / (number of real data)``, after two rounds.

    Each round is one step of expectation maximisation for an unknown noise variance, its expectation taken over a few
    short posterior draws; at the fixed point chi2 of the draws equals the number of data. A level that was right stays
    as it is. ``meta`` keeps the first estimate as ``sigma_first``.

    Args:
        measurement: of a linear operator, with Gaussian noise of one level.
        prior: as `invdiff.sample` takes it.
        seed, memory, progress: as in `invdiff.sample`.
        checkpoint: folder for the rounds, each in one of its own; they stay there.
        resume: go on from them.
        report: told the level after each round.

    Raises:
        InputError: the noise is not Gaussian with one level.

    Source: Dempster, Laird and Rubin, J. R. Stat. Soc. B 39 (1977), for a variance.
    """
    if not isinstance(measurement.noise, Gaussian) or not isinstance(measurement.noise.sigma, float):
        raise InputError("noise_of_draws needs Gaussian noise of one level: it refines a single number")
    first = sigma = measurement.noise.sigma
    refined = measurement
    for number in range(1, ROUNDS + 1):
        pilot = Guided(partial(MMPS, iterations=ITERATIONS), DPMpp2M(1.0), NFE, name="noise level")
        draws = sample(
            refined, prior, pilot, DRAWS, seed=seed + number, device=measurement.y.device, memory=memory,
            progress=progress, checkpoint=checkpoint and checkpoint / f"noise-{number}", resume=resume, keep=True,
        )  # fmt: skip
        sigma *= float(draws.diagnostics["chi2_ratio"]) ** 0.5
        report(f"noise level: {first:.4g} estimated, {sigma:.4g} after {number} of {ROUNDS} rounds of draws")
        refined = Measurement(
            measurement.y,
            measurement.operator,
            Gaussian(sigma),
            measurement.coords,
            measurement.meta | {"sigma": sigma, "sigma_first": first},
            measurement.batched,
        )
    return refined
