"""Slow directions found in a trajectory (TICA), and any network that was trained elsewhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.files import existing
from invdiff.operators.base import Operator
from invdiff.operators.molecular.base import CollectiveVariable
from invdiff.operators.molecular.geometry import Torsion

__all__ = ["TICA", "Learned"]


class TICA(CollectiveVariable):
    """The slowest linear combinations of features: ``s = W (f(x) - mean)``.

    f are the components of a collective variable, cosine and sine of those that are periodic. `fit` finds W from a
    trajectory. Source: G. Pérez-Hernández et al., J. Chem. Phys. 139, 015102 (2013).

    Args:
        variable: what the features are made of.
        mean: ``(features,)``.
        weights: W, ``(components, features)``.

    Raises:
        ShapeError: they do not fit.
    """

    def __init__(self, variable: CollectiveVariable, mean: Tensor, weights: Tensor) -> None:
        count = sum(1 if p is None else 2 for p in variable.period)
        if mean.shape != (count,) or weights.ndim != 2 or weights.shape[1] != count:
            raise ShapeError(
                f"TICA got mean {tuple(mean.shape)}, weights {tuple(weights.shape)}; {variable!r} has {count} features"
            )
        self.variable, self.mean, self.weights = variable, mean, weights
        self._shape(variable.atoms, len(weights), "1")

    def _forward(self, x: Tensor) -> Tensor:
        return (_features(self.variable, x) - self.mean.to(x.dtype)) @ self.weights.T.to(x.dtype)

    @classmethod
    def fit(cls, variable: CollectiveVariable, trajectory: Tensor, lag: int, components: int = 1) -> TICA:
        """Solve ``C(lag) w = l C(0) w`` for the largest l, with symmetrised covariances; var(s) = 1.

        Args:
            variable: what the features are made of.
            trajectory: ``(frames, atoms, 3)`` in nm, equally spaced in time.
            lag: frames.
            components: how many directions.

        Raises:
            InputError: fewer frames than features beyond the lag, or more components than features that vary.
        """
        f = _features(variable, trajectory).double()
        if not 0 < lag < len(f) or len(f) - lag <= f.shape[1]:
            raise InputError(f"TICA got {len(f)} frames, {f.shape[1]} features and lag {lag}; it needs more frames")
        early, late = f[:-lag], f[lag:]
        mean = 0.5 * (early.mean(0) + late.mean(0))
        early, late = early - mean, late - mean
        now = (early.T @ early + late.T @ late) / (2 * len(early))
        later = (early.T @ late + late.T @ early) / (2 * len(early))
        values, vectors = torch.linalg.eigh(now)
        kept = values > 1e-10 * values[-1]  # directions in which nothing moves have no correlation
        if int(kept.sum()) < components:
            raise InputError(f"TICA was asked for {components} components of {int(kept.sum())} features that vary")
        whiten = vectors[:, kept] / values[kept].sqrt()
        slow = torch.linalg.eigh(whiten.T @ later @ whiten).eigenvectors.flip(1)[:, :components]
        weights = (whiten @ slow).T
        sign = torch.sign(weights.gather(1, weights.abs().argmax(1, keepdim=True)))  # an eigenvector's sign is free
        return cls(variable, mean, weights * sign)

    @classmethod
    def example(cls, rng: torch.Generator) -> TICA:
        """Build one component of two torsions' cosines and sines."""
        torsions = Torsion([[0, 1, 2, 3], [1, 2, 3, 4]], 5)
        return cls(torsions, torch.randn(4, generator=rng), torch.randn(1, 4, generator=rng))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"variable": self.variable, "mean": self.mean, "weights": self.weights}


class Learned(CollectiveVariable):
    """A network ``(N, atoms, 3) -> (N, k)`` saved as TorchScript, or any differentiable torch module.

    Whether it is invariant under rotation is the network's affair: let it start from distances or torsions. A script
    holds code, so it is loaded from a path that the user names, never from inside a measurement file.

    Args:
        network: the module, or the path of a TorchScript file.
        atoms: number of atoms of the molecule.
        components: k.
        period: of every component; None where it is not periodic.

    Raises:
        FileError: no such file. InputError: it is not TorchScript, or does not give ``(N, k)``.
    """

    def __init__(
        self, network: torch.nn.Module | str | Path, atoms: int, components: int = 1, period: float | None = None
    ) -> None:
        if isinstance(network, (str, Path)):
            path = existing(network)
            try:
                network = torch.jit.load(str(path), map_location="cpu")
            except (RuntimeError, ValueError) as error:
                raise InputError(f"{path} is not TorchScript; save the network with torch.jit.save") from error
        if not isinstance(network, torch.nn.Module):
            raise DTypeError(f"Learned got {type(network).__name__}; it expects a torch.nn.Module or a path")
        self.network = network.eval()
        for parameter in network.parameters():  # a script has no requires_grad_ of its own
            parameter.requires_grad_(False)
        self._shape(atoms, components, "1", period)
        probe = next((p for p in network.parameters()), torch.zeros(1))
        with torch.no_grad():
            y = self.network(torch.zeros(2, atoms, 3, dtype=probe.dtype, device=probe.device))
        if tuple(y.shape) != (2, components):
            raise InputError(
                f"the network gives {tuple(y.shape)} for 2 molecules of {atoms} atoms, not (2, {components})"
            )

    def _forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y

    def to(self, target: torch.device | str | torch.dtype) -> Operator:
        """Return a copy on a device or in a precision."""
        out = copy.copy(self)
        out.network = copy.deepcopy(self.network).to(target)
        return out

    def state(self) -> dict[str, Any]:
        """Raise InputError: a measurement file holds no code."""
        raise InputError("Learned cannot be saved with a measurement, because a network is code; keep its own file")

    @classmethod
    def example(cls, rng: torch.Generator) -> Learned:
        """Build a network of two layers on the coordinates of four atoms."""
        layers = (torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        network = torch.nn.Sequential(*layers)
        with torch.no_grad():
            for p in network.parameters():
                p.copy_(torch.randn(p.shape, generator=rng) / 3)
        return cls(network, 4, 2)


def _features(variable: CollectiveVariable, x: Tensor) -> Tensor:
    v = variable.forward(x)
    columns = []
    for k, period in enumerate(variable.period):
        turn = None if period is None else 2 * torch.pi / period * v[:, k]
        columns += [v[:, k]] if turn is None else [torch.cos(turn), torch.sin(turn)]
    return torch.stack(columns, 1)
