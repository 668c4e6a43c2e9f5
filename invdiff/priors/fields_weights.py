"""A fields prior in a weights file: network, Gaussian part and climatology together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import FormatError
from invdiff.networks.field_unet import FieldUNet
from invdiff.networks.sphere_padding import rim_of
from invdiff.priors.fields_calendar import Calendar
from invdiff.priors.fields_gaussian import LowRankGaussian
from invdiff.priors.fields_guess import FieldsPrior, FirstGuess

__all__ = ["FieldBackbone", "assemble", "fields_prior"]


class FieldBackbone(nn.Module):
    """The network, with all else that the prior is made of as buffers, so that one state dictionary holds it.

    Args:
        architecture: of `FieldUNet`: channels, blocks, embedding, fold, dropout.
        gaussian: of all states. calendar: their climatology.
        latitude, longitude: of the grid, degrees. vectors: which of the C channels are components of the wind.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        gaussian: LowRankGaussian,
        calendar: Calendar,
        latitude: Sequence[float],
        longitude: Sequence[float],
        vectors: Sequence[bool],
    ) -> None:
        super().__init__()
        channels = gaussian.sample_shape[0]
        turned = [*(list(vectors) * len(calendar.offsets) * 2), *[False] * (calendar.conditions - 1)]
        turned[len(turned) - len(vectors) :] = list(vectors)  # the normal field, which comes last
        self.network = FieldUNet(
            len(turned), channels, rim=rim_of(latitude, longitude), vectors=turned, **dict(architecture)
        )
        for name, value in (
            ("directions", gaussian.directions),
            ("variances", gaussian.variances),
            ("climatology", calendar.climatology),
            ("annual", _annual(calendar.annual, calendar.climatology)),
            ("static", calendar.static),
        ):
            self.register_buffer(name, value.detach().float().clone())

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return the raw network output F."""
        out: Tensor = self.network(x, c_noise)
        return out


def assemble(backbone: FieldBackbone, told: Mapping[str, Any], gaussians: Sequence[LowRankGaussian] = ()) -> FirstGuess:
    """The denoiser of a backbone; `gaussians` are those for training."""
    shape = (len(told["offsets"]) * len(told["mean"]), len(told["latitude"]), len(told["longitude"]))
    directions, variances = backbone.get_buffer("directions"), backbone.get_buffer("variances")
    own = LowRankGaussian(directions, variances.clamp_min(told["tail"]), float(told["tail"]), shape)
    return FirstGuess(backbone, [own, *gaussians], float(told["highest"]))


def fields_prior(card: dict[str, Any], tensors: Mapping[str, Tensor]) -> FieldsPrior:
    """The prior of a card and tensors, as `invdiff train` writes them. It has the climatology as ``calendar``.

    Raises:
        FormatError: the tensors do not fit the card.
    """
    told = card["fields"]
    try:
        tensors = {k: v.float() for k, v in tensors.items()}
        tensors.setdefault("annual", _annual(None, tensors["climatology"]))  # weights from before there was one
        mean, std = (torch.tensor(told[name], dtype=torch.float32) for name in ("mean", "std"))
        calendar = Calendar(
            tuple(told["hours"]), tensors["climatology"], mean, std, tensors["static"], tuple(told["offsets"]),
            tensors["annual"] if bool(tensors["annual"].any()) else None,
        )  # fmt: skip
        shape = (len(mean), len(told["latitude"]), len(told["longitude"]))
        calendar.check(shape)
        window = (len(told["offsets"]) * shape[0], *shape[1:])
        u, _ = torch.linalg.qr(tensors["directions"])  # half precision has left them almost orthonormal
        u = u * (u * tensors["directions"]).sum(0).sign()
        variances = tensors["variances"].clamp_min(told["tail"])
        gaussian = LowRankGaussian(u, variances, float(told["tail"]), window)
        architecture = {k: v for k, v in card["architecture"].items() if k != "type"}
        backbone = FieldBackbone(architecture, gaussian, calendar, told["latitude"], told["longitude"], told["vectors"])
        backbone.load_state_dict({**tensors, "directions": u, "variances": variances})
        network = assemble(backbone, told)
    except (KeyError, RuntimeError, TypeError) as error:
        raise FormatError(f"tensors and card of the fields prior do not fit each other: {error}") from error
    prior = FieldsPrior(network, calendar, float(card["sigma_min"]), float(card["sigma_max"]), card)
    return prior


def _annual(annual: Tensor | None, climatology: Tensor) -> Tensor:
    return torch.zeros(2, *climatology.shape[1:]) if annual is None else annual
