"""Energies that are computed one configuration at a time, on several threads, with failures counted and survived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["OneByOne"]

Single = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


class OneByOne:
    """Workers, each a function of one configuration ``(atoms, 3)`` in nm to U (kJ/mol) and force (kJ/(mol nm)).

    Every configuration is computed afresh, so that its result depends on nothing that came before.

    Args:
        workers: one per thread; a worker is called by one thread only.
        atoms: number of atoms.
        failures: exceptions that mean "this configuration has no energy"; others are raised.

    Attributes:
        failed: configurations without an energy so far; U and force of these are NaN.
        last_failure: what the last of them said.
    """

    units = "kJ/mol"

    def __init__(self, workers: Sequence[Single], atoms: int, failures: tuple[type[Exception], ...]) -> None:
        if not workers:
            raise InputError("threads is 0; it expects 1 or more")
        self.domain_shape: tuple[int, ...] = (atoms, 3)
        self.calls = self.failed = 0
        self.last_failure = ""
        self._workers = list(workers)
        self._failures: tuple[type[Exception], ...] = (ArithmeticError, *failures)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U ``(N,)`` and the force ``(N, atoms, 3)``. Raises ShapeError where x has another shape."""
        if x.ndim != 3 or tuple(x.shape[1:]) != self.domain_shape:
            name = type(self).__name__
            raise ShapeError(f"{name} got x of shape {tuple(x.shape)}; it expects (N, {self.domain_shape[0]}, 3)")
        self.calls += x.shape[0]
        positions = x.detach().cpu().to(torch.float64).numpy()
        u, force = np.full(len(positions), np.nan), np.full(positions.shape, np.nan)

        def share(k: int) -> list[str]:
            said = []
            for n in range(k, len(positions), len(self._workers)):
                try:
                    if not np.isfinite(positions[n]).all():
                        raise ArithmeticError("the coordinates are not finite")
                    value, pull = self._workers[k](positions[n])
                    if not (np.isfinite(value) and np.isfinite(pull).all()):
                        raise ArithmeticError("the energy or its gradient is not finite")
                    u[n], force[n] = value, pull
                except self._failures as error:
                    said.append(str(error))
            return said

        if len(self._workers) == 1:
            said = share(0)
        else:
            with ThreadPoolExecutor(len(self._workers)) as pool:
                said = [text for part in pool.map(share, range(len(self._workers))) for text in part]
        self.failed += len(said)
        self.last_failure = said[-1] if said else self.last_failure
        return torch.from_numpy(u).to(x), torch.from_numpy(force).to(x)
