"""Denoisers of the deepinv library."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from invdiff.errors import DTypeError
from invdiff.priors.adapters.network import NetworkPrior, adapted

__all__ = ["from_deepinv"]


class _Denoiser(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        out: Tensor = self.network(x, sigma.to(x.dtype))
        return out.to(x.dtype)


def from_deepinv(denoiser: nn.Module, **declared: Any) -> NetworkPrior:
    """A deepinv denoiser ``model(x, sigma)`` as a prior, in the denoiser's own unit (0 to 1 for its shipped networks).

    deepinv's sigma is the standard deviation of the noise, as here, so nothing is converted; a network that it wraps
    (``DiffUNet``, ``ScoreModelWrapper``, ``EDMPrecond``) is converted by that wrapper, rounding of times included.

    Args:
        denoiser: module ``(x, sigma (N,)) -> E[x0 | x]``.
        declared: see `NetworkPrior`; `sigma_max` is not known to the denoiser and should be given.

    Raises DTypeError where `denoiser` is no module.
    """
    if not isinstance(denoiser, nn.Module):
        raise DTypeError(f"from_deepinv got {type(denoiser).__name__}; it expects a deepinv denoiser (a torch module)")
    return adapted(_Denoiser(denoiser), declared)
