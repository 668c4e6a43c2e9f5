"""Tensors from files, without running what is in them."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from invdiff.errors import FormatError
from invdiff.files import existing

__all__ = ["load_weights"]


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a network's tensors from a safetensors file, or from a PyTorch checkpoint that holds nothing but data.

    A checkpoint's tensors may stand under ``ema``, ``state_dict``, ``model`` or ``params`` (the first of these that is
    a dictionary is taken); ``module.`` before every name is dropped.

    Raises:
        FileError: the file cannot be opened. FormatError: it is a pickle that would run code when opened (the message
            says how to convert it), or holds no tensors.
    """
    path = existing(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise FormatError(f"{path} is not a safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise FormatError(
            f"{path} is refused: it is no plain checkpoint, and opening it could run code it carries"
            f" ({str(error).splitlines()[0]}). Where you trust it, load it with the code it came with and write its"
            " tensors: safetensors.torch.save_file(net.state_dict(), 'weights.safetensors')"
        ) from error
    for name in ("ema", "state_dict", "model", "params"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise FormatError(f"{path} holds no tensors by name; expected a network's state_dict")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): v for name, v in tensors.items()}
    return tensors
