"""What all guidance shares: it is called like a denoiser, ``(x, sigma) -> E[x0 | x, y]``, so it runs under any solver.

For linear operators with Gaussian noise everything a method needs from the data is in the normal equations: the
precision ``N = A^H S^-1 A`` and the information ``b = A^H S^-1 y`` (S the noise covariance), both in image space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.ct.streamed import Streamed
from invdiff.priors.base import Prior

__all__ = ["Counts", "Guidance", "NormalEquations", "spread2"]


@dataclass
class Counts:
    """Network evaluations and vector-Jacobian products so far; each counts once for the whole batch.

    Of populations also steps whose weights may be shrunk to keep it alive, and those where that was needed.
    """

    nfe: int = 0
    vjp: int = 0
    weighed: int = 0
    shrunk: int = 0


class Guidance:
    """Posterior denoiser of a prior and a measurement; subclasses write ``__call__(x, sigma)``.

    `exact_for` says what prior the method is exact for at infinitely many steps: "gaussian", "any" or "none".
    `evaluations` of the network are made a call, and `carries` tensors are kept for the next.
    """

    exact_for = "none"
    uses_vjp = False
    carries = 0
    evaluations = 1

    def __init__(self, prior: Prior, measurement: Measurement) -> None:
        self.prior, self.measurement, self.counts = prior, measurement, Counts()

    def begin(self) -> None:
        """Forget whatever is carried from step to step."""

    def carried(self) -> tuple[Tensor, ...]:
        """Return the `carries` tensors that the next step needs from this one, for a checkpoint."""
        return ()

    def restore(self, carried: tuple[Tensor, ...]) -> None:
        """Go on from what `carried` returned."""

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return ``E[x0 | x, y]``, approximately, for x ``(N, *event)``."""
        raise TypeError(f"{type(self).__name__} does not define __call__(x, sigma)")

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """The prior's denoised image ``E[x0 | x]``."""
        self.counts.nfe += 1
        return self.prior.denoise(x, _level(x, sigma))

    def denoise_with_vjp(self, x: Tensor, sigma: float) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The denoised image and the function ``v -> J^T v``, J its (real-linear) Jacobian."""
        self.counts.nfe += 1
        with torch.inference_mode(False), torch.enable_grad():
            leaf = _leaf(x)
            x0 = self.prior.denoise(leaf, _level(leaf, sigma))

        def vjp(v: Tensor) -> Tensor:
            self.counts.vjp += 1
            with torch.inference_mode(False):  # slices in chunks build their graph now
                (out,) = torch.autograd.grad(x0, leaf, v, retain_graph=True)
            return out

        return x0.detach(), vjp


def _leaf(x: Tensor) -> Tensor:
    """The same numbers as a new leaf to differentiate by; only what inference mode made has to be copied."""
    return (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)


def _level(x: Tensor, sigma: float) -> Tensor:
    return torch.full((1,), sigma, dtype=x.real.dtype, device=x.device)


def spread2(prior: Prior, sigma: float) -> float:
    """Variance of x0 given x for a prior of variance v: ``r^2 = v sigma^2/(v + sigma^2)`` (PiGDM's, in any unit)."""
    v = prior.scale**2
    return v * sigma**2 / (v + sigma**2)


class NormalEquations:
    """``N x = A^H S^-1 A x`` and ``b = A^H S^-1 y`` of a linear operator with Gaussian noise.

    Where the operator says that x is zero (`support`), that is one more datum a pixel: 0, as precise as the others.

    Raises:
        InputError: the operator is nonlinear or the noise is not Gaussian.
    """

    def __init__(self, measurement: Measurement, method: str) -> None:
        op, noise = measurement.operator, measurement.noise
        if not isinstance(op, LinearOperator) or not isinstance(noise, Gaussian):
            raise InputError(
                f"{method} needs a linear operator and Gaussian noise; got {op!r} and {type(noise).__name__}"
            )
        self.op = op
        variance = noise.variance(measurement.y)
        self.weight = 1 / variance
        self.data = measurement.data
        self.information = op.adjoint(self.weight * measurement.data)
        self.outside: Tensor | None = None
        if op.support is not None:
            typical = self.weight if isinstance(self.weight, float) else float(self.weight.mean())
            self.outside = (~op.support).to(self.information.real.dtype) * typical
            self.information = self.information * op.support

    def closed_proximal(self, x0: Tensor, weight: float) -> Tensor | None:
        """Return ``argmin_z |y - A z|^2_{S^-1} + |z - x0|^2 / weight`` where it has a closed form, else None."""
        if not isinstance(self.weight, float) or not self.op.has_damped_inverse:
            return None
        step = self.op.damped_inverse(self.data - self.op.forward(x0), 1 / (weight * self.weight))
        if step is None or self.outside is None:
            return None if step is None else x0 + step
        return (x0 + step) / (1 + weight * self.outside)  # A does not see the pixels outside: two separate problems

    def precision(self, x: Tensor) -> Tensor:
        """Return ``A^H S^-1 A x``."""
        if isinstance(self.weight, float):
            out = self.op.normal(x) * self.weight
        elif isinstance(self.op, Streamed):
            out = self.op.weighted_normal(x, self.weight)
        else:
            out = self.op.adjoint(self.weight * self.op.forward(x))
        return out if self.outside is None else torch.addcmul(out, x, self.outside.to(x.dtype))
