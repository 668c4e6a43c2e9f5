"""A denoiser from the description in a configuration or in a weights file's card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from invdiff.errors import UnknownNameError
from invdiff.networks.precondition import FlowMatched, Preconditioned
from invdiff.networks.unet import UNet

__all__ = ["backbone", "denoiser"]


def backbone(architecture: Mapping[str, Any], channels: int, conditions: int = 0) -> nn.Module:
    """The network that ``architecture["type"]`` names, built with the other entries; weights random.

    Args:
        architecture: ``{"type": "UNet", "channels": [32, 64], ...}``.
        channels: of the image; conditions: of what is given beside it.

    Raises:
        UnknownNameError: no such type. TypeError: an entry that it does not take.
    """
    shape = {k: v for k, v in architecture.items() if k != "type"}
    if architecture["type"] == "UNet":
        return UNet(channels + conditions, channels, **shape)
    raise UnknownNameError(f"no network {architecture['type']!r}; known: UNet")


def denoiser(
    architecture: Mapping[str, Any], channels: int, conditions: int, objective: str, sigma_data: float
) -> Preconditioned | FlowMatched:
    """The network and what makes a denoiser of it; `objective` is "edm" or "flow"."""
    if objective not in ("edm", "flow"):
        raise UnknownNameError(f"no objective {objective!r}; known: edm, flow")
    net = backbone(architecture, channels, conditions)
    return Preconditioned(net, sigma_data) if objective == "edm" else FlowMatched(net, sigma_data)
