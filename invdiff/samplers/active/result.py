"""The result of an active acquisition: draws, mask, order, and what was believed when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from invdiff.errors import FormatError
from invdiff.files import existing, replacing
from invdiff.measurement import Measurement
from invdiff.policies import Candidates
from invdiff.posterior import Posterior

__all__ = ["Acquisition", "Decision", "load_order", "save_order"]


@dataclass(frozen=True)
class Decision:
    """One decision: what was chosen, and what was believed before.

    Args:
        groups: those chosen, the most wanted first; empty where the target was met.
        entropy: `Belief.entropy`, nats that measuring everything would have given.
        uncertainty: `Belief.uncertainty`, the expected relative error.
        seconds: what belief and policy took.
        nfe: network evaluations so far.
        x: the particles ``(draws, *event)``, in the unit of x.
    """

    groups: list[int]
    entropy: float
    uncertainty: float
    seconds: float
    nfe: int
    x: Tensor


@dataclass(frozen=True)
class Acquisition:
    """What was acquired, and what it says.

    Args:
        posterior: the draws, with everything below that is a number in its diagnostics.
        measurement: the data that were measured, ready for `invdiff.sample`.
        mask: which data were measured, boolean, broadcasts to the range.
        order: groups in the order in which they were measured, the initial ones first.
        initial: how many of them were there before the first decision.
        decisions: in their order.
        entropy: of the belief before the first decision and after each; the last one is that of the draws.
        seconds: of the whole run.
        nfe: network evaluations, each for all particles.
        candidates: the groups.
    """

    posterior: Posterior
    measurement: Measurement
    mask: Tensor
    order: list[int]
    initial: int
    decisions: list[Decision]
    entropy: list[float]
    uncertainty: list[float]
    seconds: float
    nfe: int
    candidates: Candidates

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of the range, to which the mask broadcasts."""
        return self.candidates.range_shape

    @property
    def seconds_per_decision(self) -> float:
        """From one decision to the next, sampling included: of the run without its final draws; 0 without decisions."""
        return float(self.posterior.diagnostics["seconds_per_decision"])

    def save(self, path: str | Path) -> Path:
        """Write mask, order and entropies as ``.npz``: `load_order` reads it, and so does ``invdiff acquire``."""
        return save_order(path, self.order, self.mask, self.entropy)


def save_order(path: str | Path, order: list[int], mask: Tensor, entropy: list[float] | None = None) -> Path:
    """Write a mask and its order as ``.npz`` without pickled objects. Raises FileError."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, order=np.array(order, np.int64), mask=mask.cpu().numpy(), entropy=np.array(entropy or [], float))
    return Path(path)


def load_order(path: str | Path, candidates: Candidates | None = None) -> list[int]:
    """Read the groups of a mask: ``.npz`` of `save_order` in their order, or ``.npy`` with a boolean per group.

    Raises:
        FileError: there is no such file. FormatError: it is something else, or of another grid than the candidates'.
    """
    path = existing(path)
    shape: tuple[int, ...] | None = None
    try:
        found = np.load(path, allow_pickle=False)
        array = found["order"] if isinstance(found, np.lib.npyio.NpzFile) else found
        if isinstance(found, np.lib.npyio.NpzFile) and "mask" in found:
            shape = found["mask"].shape
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise FormatError(f"{path} is no mask: {error}; expected .npz with 'order', or .npy of booleans") from error
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
        order = [int(i) for i in array]
        fits = candidates is None or (
            shape in (None, tuple(candidates.labels.shape)) and all(0 <= g < len(candidates) for g in order)
        )
    elif array.dtype != np.bool_ or array.squeeze().ndim != 1:
        raise FormatError(
            f"{path} holds {array.dtype} of shape {array.shape}; expected one boolean per group, or group numbers"
        )
    else:
        order, fits = [int(i) for i in np.flatnonzero(array)], candidates is None or array.size == len(candidates)
        shape = array.shape
    if candidates is not None and not fits:
        raise FormatError(
            f"{path} is a mask of shape {shape}, groups up to {max(order, default=0)}; it was made for another size or"
            f" axis than the {len(candidates)} groups here, {tuple(candidates.labels.shape)}"
        )
    return order
