"""Shipped and user-given weights: `load_prior`."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import FileError, FormatError, UnknownNameError
from invdiff.priors.adapters.network import NetworkPrior
from invdiff.priors.affine import Affine
from invdiff.priors.base import Hounsfield, Prior, Units, as_prior

__all__ = ["card_of", "load_prior", "shipped_priors"]

_FOLDER = Path(__file__).parent.parent / "weights"


def shipped_priors() -> dict[str, dict[str, Any]]:
    """The cards of the priors that come with the package, by name."""
    return {path.stem: _card(path) for path in sorted(_FOLDER.glob("*.safetensors"))}


def load_prior(name: str | Path, device: torch.device | str = "cpu", half: str = "auto") -> Prior:
    """Load a prior by name, shipped (``"mri"``) or a plug-in's, or from a ``.safetensors`` file that training wrote.

    A plug-in registers a function ``() -> Prior`` in the entry-point group ``invdiff.priors``.

    Args:
        name: see above.
        device: where its network runs.
        half: the precision in which a network of images runs: "auto", "none", "bfloat16" or "float16"
            (`invdiff.networks.precision`).

    Raises:
        FileError: there is no such file or prior, or it does not fit into memory. FormatError: the file is not
        safetensors or has no card. DTypeError: what the plug-in makes is no prior. UnknownNameError: no such precision.
    """
    from invdiff.networks.build import denoiser

    path = Path(name)
    if not path.is_file():
        path = _FOLDER / f"{name}.safetensors"
    if not path.is_file():
        plugins = {point.name: point for point in entry_points(group="invdiff.priors")}
        if str(name) in plugins:
            return as_prior(plugins[str(name)].load()()).to(device)
        raise FileError(
            f"no prior {str(name)!r}: give a .safetensors file or a name, shipped or a plug-in's:"
            f" {', '.join([*shipped_priors(), *sorted(plugins)]) or 'none in this installation'}"
        )
    card = _card(path)
    if "fields" in card:
        from invdiff.priors.fields_weights import fields_prior

        return fields_prior(card, _tensors(path)).to(device)
    channels = int(card.get("channels", 2 if card["domain"] == "complex" else 1))
    told = card.get("condition") or {}
    conditions = int(told.get("channels", 2 if told.get("kind") == "position" else 0))
    try:
        network = denoiser(
            card["architecture"], channels, conditions, card.get("objective", "edm"), float(card["sigma_data"])
        )
        network.backbone.load_state_dict({k: v.float() for k, v in _tensors(path).items()})
    except (RuntimeError, TypeError, UnknownNameError) as error:
        raise FormatError(f"{path}: tensors do not fit the architecture its card names: {error}") from error
    axes = int(card.get("axes", 2))
    if axes == 2:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    prior = NetworkPrior(
        network.to(device),
        domain=card["domain"],
        sigma_min=float(card["sigma_min"]),
        sigma_max=float(card["sigma_max"]),
        scale=float(card["sigma_data"]),
        units=_units(card.get("units")),
        card=card,
        condition="position" if told.get("kind") == "position" else None,
        axes=axes,
        half=half,
    )
    affine = card.get("affine")
    return Affine(prior, float(affine["factor"]), float(affine["shift"])) if affine else prior


def _units(declared: dict[str, Any] | None) -> Units | Hounsfield | None:
    if not declared:
        return None
    if declared["kind"] == "HU":
        return Hounsfield(float(declared["water"]))
    return Units(float(declared["quantile"]), float(declared["value"]))


def card_of(name: str | Path) -> dict[str, Any]:
    """The card of weights, by path or shipped name. Raises FileError, FormatError."""
    path = Path(name)
    path = path if path.is_file() else _FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise FileError(f"no weights {str(name)!r}: neither a file nor shipped")
    return _card(path)


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(path)
    except (MemoryError, RuntimeError) as error:  # RuntimeError: torch could not map the file
        raise FileError(f"{path} does not fit into memory: {error}") from error
    return found


def _card(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (MemoryError, RuntimeError) as error:
        raise FileError(f"{path} does not fit into memory: {error}") from error
    except (SafetensorError, OSError) as error:
        raise FormatError(
            f"{path} is not a safetensors file ({error}); pickled weights are refused: convert them with"
            " safetensors.torch.save_file in an environment where you trust them"
        ) from error
    try:
        card: dict[str, Any] = json.loads(metadata["card"])
        missing = {"domain", "architecture", "sigma_data", "sigma_min", "sigma_max"} - card.keys()
    except (KeyError, json.JSONDecodeError) as error:
        raise FormatError(f"{path} has no card in its metadata; expected weights written by 'invdiff train'") from error
    if missing:
        raise FormatError(f"{path}: its card lacks {', '.join(sorted(missing))}")
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = path.with_suffix(".json")
    if beside.is_file():
        measured = json.loads(beside.read_text(encoding="utf-8"))
        if measured.get("sha256") == card["sha256"]:  # figures of other weights say nothing about these
            card["measured"] = measured
    return card
