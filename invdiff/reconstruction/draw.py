"""Making the draws: the one place where a sampler is run, and where other ways of running one come in."""

from __future__ import annotations

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior
from invdiff.reconstruction.settings import Settings
from invdiff.samplers.base import Sampler
from invdiff.sampling import sample
from invdiff.solvers.base import State
from invdiff.trust.trajectory import TrajectoryVariance

__all__ = ["draw"]


def draw(measurement: Measurement, prior: Prior, sampler: Sampler, settings: Settings) -> Posterior:
    """Draw from the posterior; with ``settings.maps`` the mean trajectory variance of the draws is attached.

    Raises what `invdiff.sample` does.
    """
    variance = TrajectoryVariance()

    def watch(state: State, part: Measurement) -> None:
        if settings.maps:
            variance(state, part)
        if settings.watch:
            settings.watch(state, part)

    posterior = sample(
        measurement, prior, sampler, settings.draws, seed=settings.seed, device=measurement.y.device,
        memory=settings.memory, checkpoint=settings.checkpoint, resume=settings.resume, keep=True,
        progress=settings.progress, watch=watch, workers=settings.workers, scheduler=settings.scheduler,
    )  # fmt: skip
    if settings.maps:
        try:
            variance.attach(posterior)
        except InputError:  # too few steps, or a resumed run whose first draws were not seen
            return posterior
        mean = posterior.dataset["trajectory_variance"].mean("draw").astype("float32")
        posterior.dataset["trajectory_variance"] = mean
    return posterior
