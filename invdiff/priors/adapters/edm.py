"""Networks of EDM and EDM2 (Karras et al., 2022, arXiv 2206.00364; 2023, arXiv 2312.02696)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from invdiff.errors import DTypeError
from invdiff.priors.adapters.network import NetworkPrior, adapted

__all__ = ["EDM", "from_edm"]


class EDM(nn.Module):
    """``net(x, sigma, class_labels)`` is the denoiser already; it computes in its own precision."""

    def __init__(self, network: nn.Module, class_labels: Tensor | None = None) -> None:
        super().__init__()
        self.network, self.labels = network, class_labels

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]`` in the dtype of x."""
        labels = None if self.labels is None else self.labels.to(x.device).expand(len(x), -1)
        out: Tensor = self.network(x, sigma, labels)
        return out.to(x.dtype)


def from_edm(network: nn.Module, class_labels: Tensor | None = None, **declared: Any) -> NetworkPrior:
    """An EDM or EDM2 network (any of their preconditionings: VP, VE, iDDPM, EDM) as a prior of images from -1 to 1.

    The published checkpoints are pickles that carry code, and are never opened here: load one where you trust it, save
    ``net.state_dict()`` as safetensors, build the network from its repository and fill it with `load_weights`.

    Args:
        network: ``(x, sigma (N,), class_labels) -> D``, with ``sigma_min`` and ``sigma_max``, which become the prior's
            as far as they are finite and above 0 (0.002 and 80 else, the paper's), and ``sigma_data``.
        class_labels: ``(1, classes)`` one-hot, for a network with classes.
        declared: see `NetworkPrior`.

    Raises DTypeError where `network` is no module.
    """
    if not isinstance(network, nn.Module):
        raise DTypeError(f"from_edm got {type(network).__name__}; it expects the network as a torch module")
    low, high = (float(getattr(network, name, 0)) for name in ("sigma_min", "sigma_max"))
    known = {
        "sigma_min": low if low > 0 else 0.002,
        "sigma_max": high if 0 < high < float("inf") else 80.0,
        "scale": float(getattr(network, "sigma_data", 0.5)),
    }
    return adapted(EDM(network, class_labels), {**known, **declared})
