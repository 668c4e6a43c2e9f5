"""The data as the twists see them: a whitened residual of real numbers, and the operator linearised at an image.

Where the operator says that x is zero (`support`), that is one more datum a pixel: 0, as precise as the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts
from invdiff.linalg import Map
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams

__all__ = ["WhiteData", "as_events", "as_real", "denoise_with_vjp", "normal_rows"]


class WhiteData:
    """``r(x) = S^-1/2 (y - A(x))`` and the Jacobian of ``S^-1/2 A``, all as real vectors ``(N, m)``.

    Args:
        measurement: linear or not.

    Raises:
        InputError: the noise is not Gaussian.
    """

    def __init__(self, measurement: Measurement) -> None:
        self.measurement, self.op = measurement, measurement.operator
        if not isinstance(measurement.noise, Gaussian):
            raise InputError(f"path weights need Gaussian noise; got {type(measurement.noise).__name__}")
        self.noise = measurement.noise
        self.constant = self.noise.log_likelihood(measurement.data, measurement.data, self.op.size).double()
        support = self.op.support
        self.outside: Tensor | None = None
        if support is not None:
            variance = self.noise.variance(measurement.y)
            typical = variance if isinstance(variance, float) else float(1 / (1 / variance).mean())
            self.outside = (~support).to(measurement.y.real.dtype) * typical**-0.5

    def residual(self, x: Tensor) -> Tensor:
        """Return r(x)."""
        parts = [as_real(self.noise.whiten(self.measurement.residual(x)))]
        if self.outside is not None:
            parts.append(as_real(-x * self.outside))
        return torch.cat(parts, 1)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return ``S^-1/2 J_A(x) u`` for u ``(N, *event)``."""
        parts = [as_real(self.noise.whiten(self.op.jvp(x, u)))]
        if self.outside is not None:
            parts.append(as_real(u * self.outside))
        return torch.cat(parts, 1)

    def adjoint(self, x: Tensor, w: Tensor) -> Tensor:
        """Return ``J_A(x)^H S^-1/2 w`` for real w ``(N, m)``, an event."""
        y = self.measurement.data
        size = y[0].numel() * (2 if y.is_complex() else 1)
        out = self.op.vjp(x, self.noise.whiten(as_events(w[:, :size].contiguous(), y)))
        if self.outside is not None:
            out = out + as_events(w[:, size:].contiguous(), x) * self.outside
        return out

    def rows(self, x: Tensor) -> Tensor:
        """Return the whitened Jacobian on real components, one row a measured datum, ``(N or 1, M, D)``."""
        y = self.measurement.data
        shared = isinstance(self.op, LinearOperator) and self.op.n_problems == 1
        at = x[:1] if shared else x
        kept = torch.ones_like(y[:1].real, dtype=torch.bool)
        if self.op.range_mask is not None:
            kept = kept & self.op.range_mask.to(y.device)
        kept = as_real(torch.complex(kept.float(), kept.float()) if y.is_complex() else kept.float())[0] > 0
        self.measured = kept.nonzero()[:, 0]
        out = []
        for j in self.measured.tolist():
            unit = torch.zeros(len(at), len(kept), dtype=y.real.dtype, device=y.device)
            unit[:, j] = 1
            out.append(as_real(self.op.vjp(at, self.noise.whiten(as_events(unit, y)))))
        return torch.stack(out, 1).double()

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return ``log p(y | x)``, shape ``(N,)``, float64."""
        return self.constant - 0.5 * (self.residual(x).double() ** 2).sum(1)


def as_real(x: Tensor) -> Tensor:
    """Events as real components ``(N, D)``: re and im of an entry stand side by side."""
    return (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).flatten(1)


def as_events(values: Tensor, like: Tensor) -> Tensor:
    """Undo `as_real`, in the dtype and event shape of `like`."""
    values = values.to(like.real.dtype)
    if like.is_complex():
        return torch.view_as_complex(values.reshape(len(values), *like.shape[1:], 2).contiguous())
    return values.reshape(len(values), *like.shape[1:])


def denoise_with_vjp(prior: Prior, x: Tensor, sigma: float, counts: Counts, particles: int) -> tuple[Tensor, Map]:
    """The denoised image and ``v -> J^T v``, counted per draw: `particles` evaluations each."""
    counts.nfe += particles
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        x0 = prior.denoise(leaf, torch.full((1,), sigma, dtype=x.real.dtype, device=x.device))

    def vjp(v: Tensor) -> Tensor:
        counts.vjp += particles
        with torch.inference_mode(False):  # slices in chunks build their graph now
            (out,) = torch.autograd.grad(x0, leaf, v, retain_graph=True)
        return out

    return x0.detach(), vjp


def normal_rows(rng: Streams, count: int, width: int, like: Tensor) -> Tensor:
    """Standard normal numbers ``(count, width)`` in float64 for `count` particles, `count / len(rng)` a stream."""
    shape = (len(rng), count // len(rng), width)
    return rng.normal(torch.empty(shape, dtype=torch.float64, device=like.device)).reshape(count, width)
