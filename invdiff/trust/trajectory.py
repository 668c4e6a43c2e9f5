"""The trajectory's variance: parts of an image that the sampler kept changing its mind about.

Along the last steps of a run the denoised image of a well-supported draw has settled; where it goes on changing, the
draw lies between what the prior has seen. The map is ``Var_t x0_t`` over the last steps, the score of a draw its mean.

Source: Aithal, Maini, Lipton and Kolter, 2024, arXiv 2406.09358.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.posterior import Posterior
from invdiff.solvers.base import State

__all__ = ["TrajectoryVariance"]


class TrajectoryVariance:
    """Collect the variance of the denoised image over the last steps of each draw; costs no evaluation.

    ``score = TrajectoryVariance(); posterior = invdiff.sample(..., watch=score); score.attach(posterior)`` adds the
    variable ``trajectory_variance`` (dimensions of the draws, unit of x squared; of complex x that of both parts) and
    ``diagnostics["hallucination"]``: the map's mean, one number a draw (and problem), which `Posterior.save` keeps.
    Where draws are exchanged along the way (sequential Monte Carlo), the exchange counts as change.

    Args:
        last: how many steps; the authors' code uses 10.

    Raises:
        InputError: fewer than 2 steps.
    """

    def __init__(self, last: int = 10) -> None:
        if last < 2:
            raise InputError(f"TrajectoryVariance got last = {last}; a variance needs at least 2 steps")
        self.last, self.maps = last, list[Tensor]()
        self._count, self._mean, self._square = 0, torch.empty(0), torch.empty(0)

    def __call__(self, state: State, measurement: Measurement) -> None:
        """Take in one step of a chunk of draws; `invdiff.sample` calls this."""
        del measurement
        if state.step == 1:
            self._count = 0
        if state.step > state.total - self.last and state.x0 is not None:
            self._add(state.x0.detach())
        if state.step == state.total:
            # One value has no variance; that is said when the map is asked for, and does not end the run.
            scale = 1 / self._count if self._count > 1 else torch.nan
            self.maps.append((self._square * scale if self._count else torch.full_like(state.x.real, torch.nan)).cpu())
            self._count = 0

    def _add(self, x0: Tensor) -> None:
        if self._count == 0:
            self._mean, self._square = torch.zeros_like(x0), torch.zeros_like(x0.real)
        self._count += 1
        before = x0 - self._mean
        self._mean = self._mean + before / self._count
        self._square = self._square + (before * (x0 - self._mean).conj()).real

    def attach(self, posterior: Posterior) -> Posterior:
        """Add map and score to the posterior of the run that was watched, and return it.

        Raises:
            InputError: the run seen has other draws, or fewer than two steps of some were seen (parts of a resumed run
                that were already done are not).
        """
        import xarray as xr

        draws = posterior.draws
        dims, batched = draws.dims, "problem" in draws.dims
        count, problems = draws.shape[0], draws.shape[1] if batched else 1
        event = tuple(draws.shape[2:] if batched else draws.shape[1:])
        maps = torch.cat(self.maps) if self.maps else torch.empty(0, *event)
        made = maps.shape[0] // problems
        if tuple(maps.shape[1:]) != event or made < count or made * problems != maps.shape[0]:
            raise InputError(
                f"{maps.shape[0]} draws of shape {tuple(maps.shape[1:])} were watched, the posterior has"
                f" {count * problems} of {event}; watch the whole of one run, and use a new collector for the next"
            )
        if bool(maps.isnan().any()):
            raise InputError(
                f"of some draws only one of the last {self.last} denoised images was seen or none; a variance needs 2:"
                " take more steps, or watch the run from its start"
            )
        factor = float(posterior.dataset.attrs.get("scale_to_prior_unit", 1.0))
        values = maps.reshape(problems, made, *event)[:, :count].transpose(0, 1) / factor**2
        values = values if batched else values[:, 0]
        posterior.dataset["trajectory_variance"] = xr.DataArray(values.numpy(), dims=dims)
        scores = values.flatten(2 if batched else 1).mean(-1)
        posterior.diagnostics["hallucination"] = scores.tolist()
        return posterior
