"""Who is asked for the data: a recorded acquisition, a simulator, or a function that talks to a scanner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.policies.candidates import Candidates

__all__ = ["Callback", "Instrument", "Recorded", "Simulator"]


class Instrument(Protocol):
    """What can be measured, and how.

    Attributes:
        operator: the forward model of everything that could be measured.
        noise: of these data.
    """

    operator: LinearOperator
    noise: Gaussian

    def measure(self, groups: Sequence[int], mask: Tensor) -> Tensor:
        """Return data of the shape ``range_shape``; only those where `mask` (boolean, broadcasts) is true are used."""
        ...


class Recorded:
    """A finished acquisition, of which data are uncovered one after the other (a retrospective study).

    Args:
        measurement: one problem, with a linear operator and Gaussian noise.

    Raises:
        InputError: it is not.
    """

    def __init__(self, measurement: Measurement) -> None:
        measurement = measurement.take([0]) if measurement.n_problems == 1 else measurement
        if measurement.n_problems > 1:
            raise InputError(f"the recording holds {measurement.n_problems} problems; take([i]) one of them")
        operator, noise = measurement.operator, measurement.noise
        if not isinstance(operator, LinearOperator) or not isinstance(noise, Gaussian):
            raise InputError("an acquisition to choose from needs a linear operator and Gaussian noise")
        self.operator: LinearOperator = operator
        self.noise, self.y = noise, measurement.data[0]
        self.coords, self.meta = measurement.coords, measurement.meta

    def measure(self, groups: Sequence[int], mask: Tensor) -> Tensor:
        """Return the recorded data."""
        del groups, mask
        return self.y


class Simulator(Recorded):
    """Data of a known truth. The noise of each datum is the same whenever it is asked for, so runs can be paired.

    Args:
        truth: event ``(*event)``.
        operator, noise: as of an `Instrument`.
        rng: for the noise.
    """

    def __init__(self, truth: Tensor, operator: LinearOperator, noise: Gaussian, rng: torch.Generator) -> None:
        y = noise.sample(operator.forward(truth[None]), rng)[0]
        if operator.range_mask is not None:
            y = y * operator.range_mask
        super().__init__(Measurement(y, operator, noise))
        self.truth = truth


class Callback:
    """A live instrument.

    Args:
        operator, noise: what is known of it.
        ask: called as ``ask(groups, mask)`` for each decision; returns data of the shape ``range_shape``.

    Raises (when asked):
        ShapeError, InputError: what came back is of another shape or kind, or holds NaN or infinity.
    """

    def __init__(
        self, operator: LinearOperator, noise: Gaussian, ask: Callable[[Sequence[int], Tensor], Tensor]
    ) -> None:
        self.operator, self.noise, self.ask = operator, noise, ask

    def measure(self, groups: Sequence[int], mask: Tensor) -> Tensor:
        """Ask, and look at the answer."""
        answer = self.ask(groups, mask)
        try:
            y = torch.as_tensor(answer)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the instrument returned {type(answer).__name__} for groups {list(groups)}: {error}"
            ) from error
        if tuple(y.shape) != tuple(self.operator.range_shape):
            raise ShapeError(
                f"the instrument returned data of shape {tuple(y.shape)} for groups {list(groups)}; expected"
                f" {tuple(self.operator.range_shape)}"
            )
        if y.is_complex() != (self.operator.range == "complex"):
            raise InputError(f"the instrument returned {y.dtype}; {self.operator!r} gives {self.operator.range} data")
        kept = torch.where(mask.to(y.device), y, torch.zeros((), dtype=y.dtype, device=y.device))
        if not bool(torch.isfinite(torch.view_as_real(kept) if kept.is_complex() else kept).all()):
            raise InputError(f"the instrument returned NaN or infinity for groups {list(groups)}")
        return kept


def data_of(instrument: Instrument, candidates: Candidates, groups: Sequence[int]) -> Tensor:
    """The data of some groups on the whole range, zeros elsewhere."""
    mask = candidates.mask(groups)
    y = instrument.measure(groups, mask)
    return torch.where(mask.to(y.device), y, torch.zeros((), dtype=y.dtype, device=y.device))
